"""Special functions: methods of Tensor. `gradient.special` has them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.dtypes import bool_, get_default_dtype
from gradient.errors import ArgumentError, DTypeError, sentence
from gradient.ops import special
from gradient.tensor.arguments import int_of, tensor_of
from gradient.tensor.base import TensorBase
from gradient.tensor.creation import arange

if TYPE_CHECKING:
    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor


class SpecialFunctions(TensorBase):
    """lgamma and its derivatives, the Bessel function i0, products with logarithms."""

    __slots__ = ()

    lgamma = special.lgamma
    digamma = special.digamma

    def polygamma(self: Any, n: int) -> Tensor:
        """The n-th derivative of digamma (itself for n = 0)."""
        n = int_of("polygamma", "n", n)
        if n < 0:
            raise ArgumentError(sentence("polygamma", "n of at least 0", n))
        return special.polygamma(self, n=n)

    def mvlgamma(self: Any, p: int) -> Tensor:
        """The logarithm of the multivariate gamma function of dimension p, for elements above
        (p - 1) / 2."""
        p = int_of("mvlgamma", "p", p)
        if p < 1:
            raise ArgumentError(sentence("mvlgamma", "p of at least 1", p))
        if self.dtype is bool_:
            raise DTypeError(sentence("mvlgamma", "numbers", "bool", "cast with .to()"))
        x = self if self.is_floating_point() else self.to(get_default_dtype())
        halves = arange(p, dtype=x.dtype, device=x.device) / 2
        logs = special.lgamma(x.unsqueeze(-1) - halves).sum(-1)
        return logs + p * (p - 1) / 4 * math.log(math.pi)

    def i0(self: Any) -> Tensor:
        """The modified Bessel function of the first kind, of order 0."""
        return special.bessel_i(tensor_of("i0", self), order=0)

    def igamma(self: Any, other: Tensor) -> Tensor:
        """The regularized lower incomplete gamma function P(x, other), with a gradient for
        `other`."""
        return special.gammainc(self, tensor_of("igamma", other))

    def igammac(self: Any, other: Tensor) -> Tensor:
        """The regularized upper incomplete gamma function, 1 - P(x, other)."""
        return special.gammaincc(self, tensor_of("igammac", other))

    def xlogy(self: Any, other: Tensor | Number) -> Tensor:
        """x log(other), and 0 where x is 0 and `other` no NaN."""
        return special.xlogy(self, other)
