"""Special functions: methods of Tensor. `gradient.special` has more of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.autograd.promotion import refuse_complex
from gradient.dtypes import bool_, get_default_dtype
from gradient.errors import ArgumentError, DTypeError, sentence
from gradient.ops import elementwise
from gradient.tensor.arguments import int_of, tensor_of
from gradient.tensor.base import TensorBase
from gradient.tensor.creation import arange

if TYPE_CHECKING:
    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor


class SpecialFunctions(TensorBase):
    """lgamma and its derivatives, the Bessel function i0, products with logarithms."""

    __slots__ = ()

    lgamma = elementwise.lgamma
    digamma = elementwise.digamma

    def polygamma(self: Any, n: int) -> Tensor:
        """The n-th derivative of digamma(self), elementwise. Integers and bools are converted to
        the default float dtype. Raises DTypeError for complex numbers."""
        from gradient.ops import special

        n = int_of("polygamma", "n", n)
        if n < 0:
            raise ArgumentError(sentence("polygamma", "n of at least 0", n))
        return special.polygamma(self, n=n)

    def mvlgamma(self: Any, p: int) -> Tensor:
        """log of the multivariate gamma function of dimension p, elementwise, defined where self >
        (p - 1) / 2. Integers are converted to the default float dtype. Raises DTypeError for bools
        and complex numbers."""
        p = int_of("mvlgamma", "p", p)
        if p < 1:
            raise ArgumentError(sentence("mvlgamma", "p of at least 1", p))
        if self.dtype is bool_:
            raise DTypeError(sentence("mvlgamma", "numbers", "bool", "cast with .to()"))
        refuse_complex("mvlgamma", [self.dtype])
        x = self if self.is_floating_point() else self.to(get_default_dtype())
        halves = arange(p, dtype=x.dtype, device=x.device) / 2
        logs = elementwise.lgamma(x.unsqueeze(-1) - halves).sum(-1)
        return logs + p * (p - 1) / 4 * math.log(math.pi)

    def i0(self: Any) -> Tensor:
        """I_0(self), the modified Bessel function of the first kind of order 0, elementwise.
        Integers and bools are converted to the default float dtype. Raises DTypeError for complex
        numbers."""
        from gradient.ops import special

        return special.bessel_i(tensor_of("i0", self), order=0)

    def igamma(self: Any, other: Tensor) -> Tensor:
        """P(self, other), the regularized lower incomplete gamma function, elementwise. The inputs
        broadcast. Only other has a derivative. Raises DTypeError for integers, bools and complex
        numbers."""
        from gradient.ops import special

        return special.gammainc(self, tensor_of("igamma", other))

    def igammac(self: Any, other: Tensor) -> Tensor:
        """1 - P(self, other), the regularized upper incomplete gamma function, elementwise. The
        inputs broadcast. Only other has a derivative. Raises DTypeError for integers, bools and
        complex numbers."""
        from gradient.ops import special

        return special.gammaincc(self, tensor_of("igammac", other))

    def xlogy(self: Any, other: Tensor | Number) -> Tensor:
        """self * log(other), and 0 where self is 0 and other is not NaN, elementwise. The inputs
        broadcast. Integers and bools are converted to the default float dtype. Raises DTypeError
        for complex numbers."""
        from gradient.ops import special

        return special.xlogy(self, other)
