"""Special functions, each with its derivative beside it: gamma functions (two more are in
`elementwise`), Bessel functions, the normal distribution, and products with logarithms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

from gradient.autograd.op import binary_op, op
from gradient.errors import NoDerivative
from gradient.ops.elementwise import digamma as digamma
from gradient.ops.elementwise import lgamma as lgamma

if TYPE_CHECKING:
    from gradient.backends import Array, Backend

# The gamma function ------------------------------------------------------------------------------


@op(lambda g, be, x, n: g * be.polygamma(x, n + 1), promotion="int_to_float")
def polygamma(be: Backend[Array], x: Array, /, *, n: int) -> Array:
    """The n-th derivative of digamma."""
    return be.polygamma(x, n)


def no_derivative(function: str, argument: str) -> NoReturn:
    raise NoDerivative(f"{function}: has no derivative with respect to {argument}, as in PyTorch")


@binary_op(lambda g: no_derivative("zeta", "input"),
    lambda g, be, s, q: g * -s * be.zeta(s + 1, q),
    promotion="int_to_float")  # fmt: skip
def zeta(be: Backend[Array], s: Array, q: Array, /) -> Array:
    """Hurwitz's zeta function: the sum of (q + k)^-s over k = 0, 1, ..."""
    return be.zeta(*arrays(be, s, q))


@op(lambda g: no_derivative("gammainc", "input"),
    lambda g, be, a, x: g * gamma_density(be, a, x),
    promotion="float_only")  # fmt: skip
def gammainc(be: Backend[Array], a: Array, x: Array, /) -> Array:
    """The regularized lower incomplete gamma function."""
    return be.gammainc(a, x)


@op(lambda g: no_derivative("gammaincc", "input"),
    lambda g, be, a, x: -g * gamma_density(be, a, x),
    promotion="float_only")  # fmt: skip
def gammaincc(be: Backend[Array], a: Array, x: Array, /) -> Array:
    """The regularized upper incomplete gamma function."""
    return be.gammaincc(a, x)


def gamma_density(be: Backend, a: Any, x: Any) -> Any:
    """x^(a-1) exp(-x) / Gamma(a)"""
    return be.exp((a - 1) * be.log(x) - x - be.lgamma(a))


# Bessel functions --------------------------------------------------------------------------------


@op(lambda g, be, x, order: g * bessel_slope(be.bessel_i, x, order), promotion="int_to_float")
def bessel_i(be: Backend[Array], x: Array, /, *, order: int = 0) -> Array:
    """The modified Bessel function of the first kind, I_n(x)."""
    return be.bessel_i(x, order)


@op(
    lambda g, be, x, order, out: (
        g * (bessel_slope(be.bessel_ie, x, order) - be.sign(be.detach(x)) * out)
    ),
    promotion="int_to_float",
)
def bessel_ie(be: Backend[Array], x: Array, /, *, order: int = 0) -> Array:
    """exp(-|x|) I_n(x)"""
    return be.bessel_ie(x, order)


def bessel_slope(function: Any, x: Any, order: int) -> Any:
    """The derivative of I_n, half of I_(n-1) + I_(n+1) (Abramowitz and Stegun 1964, 9.6.26)."""
    return 0.5 * (function(x, abs(order - 1)) + function(x, order + 1))


# The normal distribution -------------------------------------------------------------------------


@op(
    lambda g, x, out: g * (2 * x * out - 2 / math.sqrt(math.pi)),
    promotion="int_to_float",
)
def erfcx(be: Backend[Array], x: Array, /) -> Array:
    """exp(x^2) erfc(x)"""
    return be.erfcx(x)


@op(
    lambda g, be, x: g * be.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)),
    promotion="int_to_float",
)
def ndtr(be: Backend[Array], x: Array, /) -> Array:
    """The probability that a standard normal number is at most x."""
    return be.ndtr(x)


@op(lambda g, be, x: g * log_ndtr_slope(be, x), promotion="int_to_float")
def log_ndtr(be: Backend[Array], x: Array, /) -> Array:
    """log(ndtr(x))"""
    return be.log_ndtr(x)


def log_ndtr_slope(be: Backend, x: Any) -> Any:
    """The density divided by ndtr(x); below 0, where both underflow, by erfcx."""
    zero = be.full((), 0, x.dtype)
    low, high = be.where(x < 0, x, zero), be.where(x < 0, zero, x)
    tail = math.sqrt(2 / math.pi) / be.erfcx(-math.sqrt(0.5) * low)
    density = be.exp(-0.5 * high * high) * (1 / math.sqrt(2 * math.pi))
    return be.where(x < 0, tail, density / be.ndtr(high))


@op(
    lambda g, be, x: g * be.exp(0.5 * be.ndtri(x) ** 2) * math.sqrt(2 * math.pi),
    promotion="int_to_float",
)
def ndtri(be: Backend[Array], x: Array, /) -> Array:
    """The inverse of ndtr: the quantile of the standard normal distribution."""
    return be.ndtri(x)


# Products with logarithms ------------------------------------------------------------------------


@op(lambda g, be, x: -g * (be.log(x) + 1), promotion="int_to_float")
def entr(be: Backend[Array], x: Array, /) -> Array:
    """-x log(x), the entropy of a probability."""
    return be.entr(x)


@binary_op(lambda g, be, a, b: product_grad(be, g, be.xlogy, a, b, 0),
    lambda g, a, b: g * a / b,
    promotion="int_to_float")  # fmt: skip
def xlogy(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a log(b); 0 where a is 0 and b is not NaN."""
    return be.xlogy(*arrays(be, a, b))


@binary_op(lambda g, be, a, b: product_grad(be, g, be.xlog1py, a, b, -1),
    lambda g, a, b: g * a / (b + 1),
    promotion="int_to_float")  # fmt: skip
def xlog1py(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a log(1 + b); 0 where a is 0 and b is not NaN."""
    return be.xlog1py(*arrays(be, a, b))


def product_grad(be: Backend, g: Any, product: Any, a: Any, b: Any, low: float) -> Any:
    """g log(b); 0 where a is 0 and not b > `low`, the pole of the logarithm. As in PyTorch, this
    includes a b that is NaN."""
    undefined = b <= low if hasattr(b, "dtype") else not b > low
    value = product(*arrays(be, g, b))
    return be.where((a == 0) & undefined, be.full((), 0, value.dtype), value)


def arrays(be: Backend, a: Any, b: Any) -> tuple[Any, Any]:
    """Return two operands, one of which may be a Python number, as arrays."""
    if not hasattr(a, "dtype"):
        return be.full((), a, b.dtype), b
    return a, b if hasattr(b, "dtype") else be.full((), b, a.dtype)
