"""Ops on one element at a time, each with its derivative beside it."""

from __future__ import annotations

import math
from typing import Any

from gradient.autograd.op import op
from gradient.errors import ArgumentError, DTypeError, sentence

# Arithmetic --------------------------------------------------------------------------------------


@op(lambda g: g,
    lambda g: g)  # fmt: skip
def add(be, a, b, /):
    """a + b"""
    return a + b


@op(lambda g: g,
    lambda g: -g, numbers="number")  # fmt: skip
def sub(be, a, b, /):
    """a - b"""
    return a - b


@op(lambda g, b: g * b,
    lambda g, a: g * a)  # fmt: skip
def mul(be, a, b, /):
    """a * b"""
    return a * b


@op(lambda g, b: g / b,
    lambda g, a, b: -(g * (a / b)) / b,  # not of `out`, which may then be overwritten
    numbers="floating")  # fmt: skip
def div(be, a, b, /):
    """a / b; integers give the default float dtype."""
    return a / b


@op(lambda g, be, a, b: power_base_grad(be, g, a, b),
    lambda g, be, a, b, out: power_exponent_grad(be, g, a, b, out))  # fmt: skip
def pow(be, a, b, /):
    """a ** b"""
    try:
        out = a**b
        if out.dtype.kind == "i" and _bools(a, b):
            if not b.shape:
                return be.astype(out, a.dtype)
            raise DTypeError(sentence("pow", "numbers", "bool ** bool", "cast one with .to()"))
        return out
    except ValueError:
        if isinstance(b, int):
            raise
        a = be.full((), a, b.dtype) if isinstance(a, int) else a
        return be.reciprocal_power(a, b)  # of integers, as PyTorch computes it


def _bools(*values: Any) -> bool:
    return not any(getattr(v, "dtype", None) is None or v.dtype.kind != "b" for v in values)


def power_base_grad(be: Any, g: Any, a: Any, b: Any) -> Any:
    """g b a^(b-1), and 0 where b is 0, whatever a is."""
    if isinstance(b, (int, float)):
        return be.zeros_like(g) if b == 0 else g * (a * 2 if b == 2 else b * a ** (b - 1))
    none = b == 0
    safe = be.where(none, be.full((), 1, b.dtype), b)
    return be.where(none, be.full((), 0, b.dtype), g * (b * a ** (safe - 1)))


def power_exponent_grad(be: Any, g: Any, a: Any, b: Any, out: Any) -> Any:
    """g a^b log a, and 0 at a = 0 where b is not negative: there the power stays 0 (or is 1)."""
    if isinstance(a, (int, float)):
        if a:
            return g * (out * (math.log(a) if a > 0 else math.nan))
        a = be.full((), 0, out.dtype)
    flat = (a == 0) & (b >= 0)
    log = be.log(be.where(flat, be.full((), 1, a.dtype), a))
    return be.where(flat, be.full((), 0, out.dtype), g * (out * log))


@op(lambda g: g,
    lambda g, b, value: g * (b * value),
    lambda g, a, value: g * (a * value))  # fmt: skip
def addcmul(be, x, a, b, /, *, value=1):
    """x + value a b"""
    return be.addcmul(x, a, b, value)


@op(lambda g: g,
    lambda g, b, value: g * (value / b),
    lambda g, a, b, value: -g * (value * (a / b) / b),
    numbers="floating")  # fmt: skip
def addcdiv(be, x, a, b, /, *, value=1):
    """x + value a / b"""
    return be.addcdiv(x, a, b, value)


@op(lambda g: -g)
def neg(be, x, /):
    """-x"""
    return -x


@op(lambda g: g,
    lambda g, be, a, b: -g * floor_quotient(be, a, b))  # fmt: skip
def remainder(be, a, b, /):
    """a - b floor(a / b): the sign of b, as Python's %."""
    return a % divisor(be, "remainder", a, b)


def floor_quotient(be: Any, a: Any, b: Any) -> Any:
    return be.detach(a // b)


@op(lambda g: g,
    lambda g, be, a, b: -g * be.detach(be.trunc(a / b)))  # fmt: skip
def fmod(be, a, b, /):
    """a - b trunc(a / b): the sign of a, as C's fmod."""
    return be.fmod(a, divisor(be, "fmod", a, b))


@op(lambda g, be: be.zeros_like(g),
    lambda g, be: be.zeros_like(g))  # fmt: skip
def floor_divide(be, a, b, /):
    """floor(a / b)"""
    return a // divisor(be, "floor_divide", a, b)


def divisor(be: Any, name: str, a: Any, b: Any) -> Any:
    """`b`, which may hold a 0 where numbers are floats alone."""
    kind = (a if hasattr(a, "dtype") else b).dtype.kind  # NumPy's float64 is a Python float, too
    if kind in "fV":
        return b
    if kind == "b":
        raise DTypeError(sentence(name, "numbers", "bool", "cast with .to()"))
    if 0 in getattr(a, "shape", ()) or 0 in getattr(b, "shape", ()):
        return b  # nothing is divided
    if b == 0 if isinstance(b, int) else be.has_zero(b):
        raise ArgumentError(sentence(name, "a divisor of integers that is not 0", 0))
    return b


@op(lambda g, be: be.zeros_like(g),
    lambda g, be: be.zeros_like(g), numbers="floating")  # fmt: skip
def trunc_divide(be, a, b, /):
    """a / b without its fraction."""
    return be.trunc(a / b)


@op(lambda g, be, x: g * be.sign(be.detach(x)), numbers="number")
def abs(be, x, /):
    """|x|, with derivative 0 at 0."""
    return be.abs(x)


@op(lambda g, be: be.zeros_like(g))
def sign(be, x, /):
    """-1, 0 or 1."""
    return be.sign(x) if x.dtype.kind != "b" else be.copy(x)


@op(lambda g, be: be.zeros_like(g), numbers="number")
def floor(be, x, /):
    """The largest integer not above x."""
    return be.copy(x) if x.dtype.kind in "biu" else be.floor(x)


@op(lambda g, be: be.zeros_like(g), numbers="number")
def ceil(be, x, /):
    """The smallest integer not below x."""
    return be.copy(x) if x.dtype.kind in "biu" else be.ceil(x)


@op(lambda g, be: be.zeros_like(g), numbers="number")
def trunc(be, x, /):
    """x without its fraction."""
    return be.copy(x) if x.dtype.kind in "biu" else be.trunc(x)


@op(lambda g, be: be.zeros_like(g), numbers="number")
def round(be, x, /):
    """The nearest integer, halves to even."""
    return be.copy(x) if x.dtype.kind in "biu" else be.round(x)


@op(lambda g: g)
def astype(be, x, /, *, dtype):
    """x with another dtype (an np.dtype)."""
    return be.astype(x, dtype)


@op(lambda g: g)
def clone(be, x, /):
    """A copy with the order of x's dimensions in memory."""
    return be.clone(x)


@op(lambda g: g)
def contiguous(be, x, /):
    """A copy in row-major order."""
    return be.copy(x)


# Exponentials and logarithms -----------------------------------------------------------------


@op(lambda g, out: g * out, numbers="floating")
def exp(be, x, /):
    """e^x"""
    return be.exp(x)


@op(lambda g, out: g * out * math.log(2), numbers="floating")
def exp2(be, x, /):
    """2^x"""
    return be.exp2(x)


@op(lambda g, out: g * (out + 1), numbers="floating")
def expm1(be, x, /):
    """e^x - 1, exact near 0."""
    return be.expm1(x)


@op(lambda g, x: g / x, numbers="floating")
def log(be, x, /):
    """The natural logarithm."""
    return be.log(x)


@op(lambda g, x: g / (x * math.log(2)), numbers="floating")
def log2(be, x, /):
    """The logarithm to base 2."""
    return be.log2(x)


@op(lambda g, x: g / (x * math.log(10)), numbers="floating")
def log10(be, x, /):
    """The logarithm to base 10."""
    return be.log10(x)


@op(lambda g, x: g / (x + 1), numbers="floating")
def log1p(be, x, /):
    """log(1 + x), exact near 0."""
    return be.log1p(x)


@op(lambda g, be, a, b: g * be.sigmoid(a - b),
    lambda g, be, a, b: g * be.sigmoid(b - a),
    numbers="floating")  # fmt: skip
def logaddexp(be, a, b, /):
    """log(e^a + e^b)"""
    return be.logaddexp(a, b)


@op(lambda g, out: g / (out * 2), numbers="floating")
def sqrt(be, x, /):
    """The square root."""
    return be.sqrt(x)


@op(lambda g, out: g * (out * out * out) * -0.5, numbers="floating")
def rsqrt(be, x, /):
    """1 / sqrt(x)"""
    return 1 / be.sqrt(x)


@op(lambda g, out: -g * out * out, numbers="floating")
def reciprocal(be, x, /):
    """1 / x"""
    return 1 / x


# Trigonometric and hyperbolic ----------------------------------------------------------------


@op(lambda g, be, x: g * be.cos(x), numbers="floating")
def sin(be, x, /):
    """The sine of radians."""
    return be.sin(x)


@op(lambda g, be, x: -g * be.sin(x), numbers="floating")
def cos(be, x, /):
    """The cosine of radians."""
    return be.cos(x)


@op(lambda g, out: g * (1 + out * out), numbers="floating")
def tan(be, x, /):
    """The tangent of radians."""
    return be.tan(x)


@op(lambda g, be, x: g / be.sqrt(1 - x * x), numbers="floating")
def asin(be, x, /):
    """The arc sine."""
    return be.arcsin(x)


@op(lambda g, be, x: -g / be.sqrt(1 - x * x), numbers="floating")
def acos(be, x, /):
    """The arc cosine."""
    return be.arccos(x)


@op(lambda g, x: g / (1 + x * x), numbers="floating")
def atan(be, x, /):
    """The arc tangent."""
    return be.arctan(x)


@op(lambda g, be, a, b: g * (b * inverse_square(be, a, b)),
    lambda g, be, a, b: g * (-a * inverse_square(be, a, b)),
    numbers="floating")  # fmt: skip
def atan2(be, a, b, /):
    """The angle of the point (b, a), with derivative 0 at the origin."""
    return be.arctan2(a, b)


def inverse_square(be: Any, a: Any, b: Any) -> Any:
    """1 / (a^2 + b^2), and 0 at the origin."""
    square = a * a + b * b
    origin = square == 0
    one, zero = be.full((), 1, square.dtype), be.full((), 0, square.dtype)
    return be.where(origin, zero, 1 / be.where(origin, one, square))


@op(lambda g, be, x: g * be.cosh(x), numbers="floating")
def sinh(be, x, /):
    """The hyperbolic sine."""
    return be.sinh(x)


@op(lambda g, be, x: g * be.sinh(x), numbers="floating")
def cosh(be, x, /):
    """The hyperbolic cosine."""
    return be.cosh(x)


@op(lambda g, out: g * (1 - out * out), numbers="floating")
def tanh(be, x, /):
    """The hyperbolic tangent."""
    return be.tanh(x)


@op(lambda g, be, x: g / be.sqrt(x * x + 1), numbers="floating")
def asinh(be, x, /):
    """The inverse hyperbolic sine."""
    return be.arcsinh(x)


@op(lambda g, be, x: g / be.sqrt((x - 1) * (x + 1)), numbers="floating")
def acosh(be, x, /):
    """The inverse hyperbolic cosine."""
    return be.arccosh(x)


@op(lambda g, x: g / (1 - x * x), numbers="floating")
def atanh(be, x, /):
    """The inverse hyperbolic tangent."""
    return be.arctanh(x)


@op(lambda g, be, x: g * be.exp(-x * x) * (2 / math.sqrt(math.pi)), numbers="floating")
def erf(be, x, /):
    """The error function."""
    return be.erf(x)


@op(lambda g, be, x: g * be.exp(-x * x) * (-2 / math.sqrt(math.pi)), numbers="floating")
def erfc(be, x, /):
    """1 - erf(x), to the last digits where erf(x) is near 1."""
    return be.erfc(x)


# Activations ---------------------------------------------------------------------------------


@op(lambda g, out: g * (out * (1 - out)), numbers="floating")
def sigmoid(be, x, /):
    """1 / (1 + e^-x)"""
    return be.sigmoid(x)


@op(lambda g, be, x, eps: logit_grad(be, g, x, eps), numbers="floating")
def logit(be, x, /, *, eps=None):
    """log(x / (1 - x)), the inverse of sigmoid, of x held between `eps` and 1 - eps."""
    if eps is not None:
        low, high = be.full((), eps, x.dtype), be.full((), 1 - eps, x.dtype)
        x = be.minimum(be.maximum(x, low), high)
    return be.log(x / (1 - x))


def logit_grad(be: Any, g: Any, x: Any, eps: float | None) -> Any:
    """g / (x (1 - x)); beyond the bounds 0, and NaN where there are none, as the value is."""
    low, outside = (0.0, math.nan) if eps is None else (eps, 0.0)
    within = (x >= low) & (x <= 1 - low)
    inner = be.where(within, x, be.full((), 0.5, x.dtype))
    return be.where(within, g / (inner * (1 - inner)), be.full((), outside, x.dtype))


@op(lambda g, be, x: g * be.sigmoid(-x), numbers="floating")
def logsigmoid(be, x, /):
    """log(sigmoid(x)), exact also where the sigmoid rounds to 0 or 1."""
    return be.logsigmoid(x)


@op(lambda g, be, out: be.where(out <= 0, be.full((), 0, g.dtype), g), numbers="number")
def relu(be, x, /):
    """max(x, 0)"""
    return be.relu(x)


@op(lambda g, be, x, beta, threshold: g * softplus_slope(be, x, beta, threshold), numbers="float")
def softplus(be, x, /, *, beta=1.0, threshold=20.0):
    """log(1 + e^(beta x)) / beta"""
    return be.softplus(x, beta, threshold)


def softplus_slope(be: Any, x: Any, beta: float, threshold: float) -> Any:
    z = x * beta
    slope = be.sigmoid(z)
    slope = be.where(z < threshold, slope, be.detach(slope))  # at the threshold, linear from here
    return be.where(z > threshold, be.full((), 1, slope.dtype), slope)


@op(lambda g, be, x: be.silu_grad(g, x), numbers="float")
def silu(be, x, /):
    """x sigmoid(x)"""
    return be.silu(x)


@op(lambda g, be, x: g * hardswish_slope(be, x), numbers="float")
def hardswish(be, x, /):
    """x min(max(x + 3, 0), 6) / 6"""
    low, high = be.full((), 0, x.dtype), be.full((), 6, x.dtype)
    return x * be.minimum(be.maximum(x + 3, low), high) / 6


def hardswish_slope(be: Any, x: Any) -> Any:
    zero, one = be.full((), 0, x.dtype), be.full((), 1, x.dtype)
    return be.where(x <= -3, zero, be.where(x < 3, x / 3 + 0.5, one))


@op(lambda g, be, x, approximate: be.gelu_grad(g, x, approximate), numbers="float")
def gelu(be, x, /, *, approximate="none"):
    """x times the normal distribution function, or its "tanh" approximation."""
    return be.gelu(x, approximate)


# Losses of one element -------------------------------------------------------------------------


@op(lambda g, be, x, target: g * bernoulli_slope(be, x, target),
    lambda g, be, x: g * (be.log1p(-x) - be.log(x)), numbers="float")  # fmt: skip
def binary_cross_entropy(be, x, target, /):
    """-(t log x + (1 - t) log(1 - x)), the logarithms cut off at -100."""
    least = be.full((), -100, x.dtype)
    log, other = be.maximum(be.log(x), least), be.maximum(be.log1p(-x), least)
    return (target - 1) * other - target * log


def bernoulli_slope(be: Any, x: Any, target: Any) -> Any:
    """(x - t) / (x (1 - x)), the denominator held from 0, where a saturated sigmoid brings it. The
    bound is for stability only: derivatives pass it."""
    variance = x * (1 - x)
    plain = be.detach(variance)
    return (x - target) / (variance + (be.maximum(plain, be.full((), 1e-12, x.dtype)) - plain))


# Choosing --------------------------------------------------------------------------------------


@op(lambda g, be, a, b: share(be, g, a < b, a == b),
    lambda g, be, a, b: share(be, g, b < a, a == b))  # fmt: skip
def maximum(be, a, b, /):
    """The larger; at a tie each gets half of the gradient, and at NaN both get all of it."""
    return be.maximum(a, b)


@op(lambda g, be, a, b: share(be, g, b < a, a == b),
    lambda g, be, a, b: share(be, g, a < b, a == b))  # fmt: skip
def minimum(be, a, b, /):
    """The smaller; at a tie each gets half of the gradient, and at NaN both get all of it."""
    return be.minimum(a, b)


def share(be: Any, g: Any, loses: Any, ties: Any) -> Any:
    return be.where(loses, be.full((), 0, g.dtype), be.where(ties, g * 0.5, g))


@op(lambda g, be, condition: be.where(condition, g, be.full((), 0, g.dtype)),
    lambda g, be, condition: be.where(condition, be.full((), 0, g.dtype), g))  # fmt: skip
def where(be, a, b, /, *, condition):
    """a where `condition` (a bool array) holds, else b."""
    return be.where(condition, a, b)


@op(lambda g, be, x, min, max: only(be, g, inside(x, min, max)))
def clamp(be, x, /, *, min=None, max=None):
    """x held between two numbers; both are inside, and where they cross, `max` is the result."""
    if min is not None:
        x = be.maximum(x, be.full((), min, x.dtype))
    return x if max is None else be.minimum(x, be.full((), max, x.dtype))


@op(lambda g, be, x, min, max: only(be, g, inside(x, min, max)),
    lambda g, be, x, min, max: only(be, g, below(x, min, max)),
    lambda g, be, x, min, max: only(be, g, above(x, min, max)))  # fmt: skip
def clamp_between(be, x, min=None, max=None, /):
    """`clamp` by bounds that are tensors; the gradient goes to the one that is the result."""
    if min is not None:
        x = be.maximum(x, min)
    return x if max is None else be.minimum(x, max)


def only(be: Any, g: Any, condition: Any) -> Any:
    """g where `condition` holds, else 0: also of a g that is infinite, which a product is not."""
    return be.where(condition, g, be.full((), 0, g.dtype))


def inside(x: Any, low: Any, high: Any) -> Any:
    if low is None:
        return x <= high
    return x >= low if high is None else (x >= low) & (x <= high)


def below(x: Any, low: Any, high: Any) -> Any:
    return x < low if high is None else (x < low) & (low < high)


def above(x: Any, low: Any, high: Any) -> Any:
    return x > high if low is None else (x > high) | (high < low)


# Without gradients ---------------------------------------------------------------------------


@op()
def eq(be, a, b, /):
    """a == b"""
    return a == b


@op()
def ne(be, a, b, /):
    """a != b"""
    return a != b


@op()
def lt(be, a, b, /):
    """a < b"""
    return a < b


@op()
def le(be, a, b, /):
    """a <= b"""
    return a <= b


@op()
def gt(be, a, b, /):
    """a > b"""
    return a > b


@op()
def ge(be, a, b, /):
    """a >= b"""
    return a >= b


@op()
def bitwise_and(be, a, b, /):
    """a & b"""
    return a & b


@op()
def bitwise_or(be, a, b, /):
    """a | b"""
    return a | b


@op()
def bitwise_xor(be, a, b, /):
    """a ^ b"""
    return a ^ b


@op()
def bitwise_not(be, x, /):
    """~x"""
    return ~x


@op()
def logical_and(be, a, b, /):
    """Both not zero."""
    return (a != 0) & (b != 0)


@op()
def logical_or(be, a, b, /):
    """One or both not zero."""
    return (a != 0) | (b != 0)


@op()
def logical_xor(be, a, b, /):
    """One, not both, not zero."""
    return (a != 0) ^ (b != 0)


@op()
def logical_not(be, x, /):
    """Zero."""
    return x == 0


@op()
def isnan(be, x, /):
    """Not a number."""
    return be.isnan(x)


@op()
def isfinite(be, x, /):
    """Neither NaN nor infinite."""
    return be.isfinite(x)


@op()
def isinf(be, x, /):
    """Infinite, of either sign."""
    return be.abs(x) == float("inf")
