"""Special functions, with PyTorch's names: of the gamma function, of Bessel functions, of the
normal distribution and of logarithms.

>>> gradient.special.ndtr(gradient.tensor([-1.0, 0.0, 1.0]))
tensor([0.1587, 0.5000, 0.8413])

Each has gradients of any order with respect to what PyTorch has one for. Those that `gradient` has
too are the same functions.
"""

from typing import TYPE_CHECKING

from gradient import absent as _absent
from gradient._exports import public as _public
from gradient.autograd.variable import Number
from gradient.ops import special as _special
from gradient.tensor import Tensor
from gradient.tensor import functions as _functions
from gradient.tensor.arguments import tensor_of as _tensor_of
from gradient.tensor.as_function import as_function as _as_function

digamma = psi = _functions.digamma
erf = _functions.erf
erfc = _functions.erfc
erfinv = _functions.erfinv
exp2 = _functions.exp2
expit = _functions.sigmoid
expm1 = _functions.expm1
gammaln = _functions.lgamma
i0 = _functions.i0
log1p = _functions.log1p
log_softmax = _functions.log_softmax
logit = _functions.logit
logsumexp = _functions.logsumexp
multigammaln = _functions.mvlgamma
polygamma = _functions.polygamma
round = _functions.round
sinc = _functions.sinc
softmax = _functions.softmax
xlogy = _functions.xlogy
entr = _as_function(_special.entr)
erfcx = _as_function(_special.erfcx)
ndtr = _as_function(_special.ndtr)
log_ndtr = _as_function(_special.log_ndtr)
ndtri = _as_function(_special.ndtri)
for _function in (entr, erfcx, ndtr, log_ndtr, ndtri):
    _function.__module__ = __name__  # where pickle looks for it


@_as_function
def gammainc(input: Tensor, other: Tensor) -> Tensor:
    """The regularized lower incomplete gamma function P(input, other), with a gradient for
    `other`."""
    return _special.gammainc(input, _tensor_of("gammainc", other))


@_as_function
def gammaincc(input: Tensor, other: Tensor) -> Tensor:
    """The regularized upper incomplete gamma function, 1 - P(input, other)."""
    return _special.gammaincc(input, _tensor_of("gammaincc", other))


@_as_function
def i0e(input: Tensor) -> Tensor:
    """exp(-|x|) I_0(x)"""
    return _special.bessel_ie(_tensor_of("i0e", input), order=0)


@_as_function
def i1(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind, of order 1."""
    return _special.bessel_i(_tensor_of("i1", input), order=1)


@_as_function
def i1e(input: Tensor) -> Tensor:
    """exp(-|x|) I_1(x)"""
    return _special.bessel_ie(_tensor_of("i1e", input), order=1)


@_as_function
def xlog1py(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """x log(1 + other), and 0 where x is 0 and `other` no NaN."""
    return _special.xlog1py(input, other)


@_as_function
def zeta(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """Hurwitz's zeta function: the sum of (other + k)^-input over k = 0, 1, ..., with a gradient
    for `other`; inf where `input` is 1, NaN where it is less."""
    return _special.zeta(input, other)


if not TYPE_CHECKING:
    __all__ = sorted({*_public(globals())} - {"Number", "Tensor"})
    __getattr__ = _absent.names(__name__)
