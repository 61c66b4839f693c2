"""Special functions, with PyTorch's names: of the gamma function, of Bessel functions, of the
normal distribution and of logarithms.

>>> gradient.special.ndtr(gradient.tensor([-1.0, 0.0, 1.0]))
tensor([0.1587, 0.5000, 0.8413])

Each has gradients of any order with respect to what PyTorch has one for. Those that `gradient` has
too are the same functions.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.autograd.variable import Number
from gradient.ops import special
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.as_function import as_function
from gradient.tensor.functions import (
    digamma,
    erf,
    erfc,
    erfinv,
    exp2,
    expm1,
    i0,
    lgamma,
    log1p,
    log_softmax,
    logit,
    logsumexp,
    mvlgamma,
    polygamma,
    round,
    sigmoid,
    sinc,
    softmax,
    xlogy,
)

__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "log1p",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "round",
    "sinc",
    "softmax",
    "xlog1py",
    "xlogy",
    "zeta",
]

psi, gammaln, multigammaln, expit = digamma, lgamma, mvlgamma, sigmoid
entr = as_function(special.entr)
erfcx = as_function(special.erfcx)
ndtr = as_function(special.ndtr)
log_ndtr = as_function(special.log_ndtr)
ndtri = as_function(special.ndtri)


@as_function
def gammainc(input: Tensor, other: Tensor) -> Tensor:
    """The regularized lower incomplete gamma function P(input, other), with a gradient for
    `other`."""
    return special.gammainc(input, tensor_of("gammainc", other))


@as_function
def gammaincc(input: Tensor, other: Tensor) -> Tensor:
    """The regularized upper incomplete gamma function, 1 - P(input, other)."""
    return special.gammaincc(input, tensor_of("gammaincc", other))


@as_function
def i0e(input: Tensor) -> Tensor:
    """exp(-|x|) I_0(x)"""
    return special.bessel_ie(tensor_of("i0e", input), order=0)


@as_function
def i1(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind, of order 1."""
    return special.bessel_i(tensor_of("i1", input), order=1)


@as_function
def i1e(input: Tensor) -> Tensor:
    """exp(-|x|) I_1(x)"""
    return special.bessel_ie(tensor_of("i1e", input), order=1)


@as_function
def xlog1py(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """x log(1 + other), and 0 where x is 0 and `other` no NaN."""
    return special.xlog1py(input, other)


@as_function
def zeta(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """Hurwitz's zeta function: the sum of (other + k)^-input over k = 0, 1, ..., with a gradient
    for `other`; inf where `input` is 1, NaN where it is less."""
    return special.zeta(input, other)


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
