"""Elementwise ops, each with its derivative beside it."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.op import binary_op, op
from gradient.autograd.variable import Variable
from gradient.backends.composed.shared import is_complex
from gradient.dtypes import HALF_PRECISION, bfloat16, float16, float32
from gradient.errors import ArgumentError, DTypeError, sentence
from gradient.ops.comparison import masked

if TYPE_CHECKING:
    from gradient.backends import Array, Backend

# Arithmetic --------------------------------------------------------------------------------------


@binary_op(lambda g: g,
    lambda g: g, takes_complex=True, operator=operator.add)  # fmt: skip
def add(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input + other, elementwise."""
    return a + b


@binary_op(lambda g: g,
    lambda g: -g,
    promotion="no_bool", bool_fix="invert a mask with ~", takes_complex=True,
    operator=operator.sub)  # fmt: skip
def sub(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input - other, elementwise."""
    return a - b


@binary_op(lambda g, b: g * b,
    lambda g, a: g * a,
    scalars_in_float32=True, takes_complex=True, operator=operator.mul)  # fmt: skip
def mul(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input * other, elementwise."""
    return a * b


@binary_op(lambda g, b: g / b,
    lambda g, a, b: -(g * (a / b)) / b,  # without `out`, so that it may be overwritten
    promotion="int_to_float", scalars_in_float32=True, takes_complex=True,
    operator=operator.truediv)  # fmt: skip
def div(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input / other, elementwise; integers are divided as floats."""
    return a / b


@binary_op(lambda g, be, a, b: power_base_grad(be, g, a, b),
    lambda g, be, a, b, out: power_exponent_grad(be, g, a, b, out),
    keeps_number="b", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def pow(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input ** exponent, elementwise."""
    try:
        if type(b) is int and b < 0 and a.dtype.kind == "u":
            raise ValueError("Integers to negative integer powers are not allowed.")
        out = power(be, a, b)
        if out.dtype.kind == "i" and _bools(a, b):
            if not b.shape:
                return be.astype(out, a.dtype)
            raise DTypeError(sentence("pow", "numbers", "bool ** bool", "cast one with .to()"))
        return out
    except ValueError:
        if isinstance(b, int):
            raise
        base = be.full((), a, b.dtype) if isinstance(a, int) else a
        return be.reciprocal_power(base, b)  # for integers, as in PyTorch


def power(be: Backend, a: Any, b: Any) -> Any:
    """a ** b. As in PyTorch, it uses sqrt if b is the number 0.5 or -0.5, except in float16: the
    root of -0 is -0, of -inf NaN; and products for floats if b is 3 or -2. For a Tensor it is
    `pow`, whose derivatives are powers."""
    if isinstance(a, Variable):
        return a**b
    if not hasattr(a, "dtype") and b.dtype == bfloat16.numpy:
        a = be.full((), a, b.dtype)
    if (type(b) is float or type(b) is int) and (b == 3 or b == -2) and _is_float(a):
        return _by_products(be, a, b)
    if type(b) is not float:
        return be.power(a, b) if hasattr(b, "dtype") or _needs_logarithm(a, b) else a**b
    roots = b in (0.5, -0.5)
    if roots and a.dtype != float16.numpy:
        if b > 0:
            return be.sqrt(a)
        wide = be.astype(a, float32.numpy) if a.dtype == bfloat16.numpy else a
        return be.astype(1 / be.sqrt(wide), a.dtype)
    if roots or a.dtype == bfloat16.numpy:
        return be.power(a, be.full((), b, a.dtype))
    return be.power(a, b) if _needs_logarithm(a, b) else a**b


def _needs_logarithm(a: Any, b: complex) -> bool:
    if a.dtype.kind == "c":
        return True
    return type(b) is not complex and b not in (-1, 0, 1, 2) and _is_float(a)


def _is_float(a: Any) -> bool:
    return bool(a.dtype.kind == "f" or a.dtype == bfloat16.numpy)


def _by_products(be: Backend, a: Any, b: float) -> Any:
    """a^3 or a^-2, rounded once in float16, and after each step in bfloat16."""
    wide = be.astype(a, float32.numpy) if a.dtype == float16.numpy else a
    out = wide * wide * wide if b == 3 else 1 / (wide * wide)
    return out if out.dtype == a.dtype else be.astype(out, a.dtype)


def _bools(*values: Any) -> bool:
    return not any(getattr(v, "dtype", None) is None or v.dtype.kind != "b" for v in values)


def scaled(be: Backend, number: complex, x: Any) -> Any:
    """number * x; the number is not rounded to the dtype of 16-bit floats, as in PyTorch."""
    if isinstance(x, Variable) or x.dtype not in HALF_PRECISION:
        return number * x
    return be.astype(number * be.astype(x, float32.numpy), x.dtype)


def power_base_grad(be: Backend, g: Any, a: Any, b: Any) -> Any:
    """g b a^(b-1); 0 where b is 0, for any a."""
    if isinstance(b, (int, float, complex)):
        return (
            be.zeros_like(g) if b == 0 else g * scaled(be, b, a if b == 2 else power(be, a, b - 1))
        )
    none = b == 0
    safe = be.where(none, be.full((), 1, b.dtype), b)
    return be.where(none, be.full((), 0, b.dtype), g * (b * power(be, a, safe - 1)))


def power_exponent_grad(be: Backend, g: Any, a: Any, b: Any, out: Any) -> Any:
    """g a^b log a; 0 where a = 0 and b >= 0, as the power is constant there (0, or 1 for b = 0)."""
    if isinstance(a, (int, float, complex)):
        if a:
            return g * scaled(be, _log_of_base(a, out), out)
        a = be.full((), 0, out.dtype)
    flat = (a == 0) & ((be.real(b) if is_complex(b) else b) >= 0)
    log = be.log(be.where(flat, be.full((), 1, a.dtype), a))
    return be.where(flat, be.full((), 0, out.dtype), g * (out * log))


def _log_of_base(a: Any, out: Any) -> float | complex:
    if is_complex(out):
        return complex(np.log(complex(a)))
    return math.log(a) if a > 0 else math.nan


@op(lambda g: g,
    lambda g, b, value: g * (b * value),
    lambda g, a, value: g * (a * value), takes_complex=True)  # fmt: skip
def addcmul(be: Backend[Array], x: Array, a: Array, b: Array, /, *, value: complex = 1) -> Array:
    """x + value a b"""
    return be.addcmul(x, a, b, value)


@op(lambda g: g,
    lambda g, b, value: g * (value / b),
    lambda g, a, b, value: -g * (value * (a / b) / b),
    promotion="int_to_float", takes_complex=True)  # fmt: skip
def addcdiv(be: Backend[Array], x: Array, a: Array, b: Array, /, *, value: complex = 1) -> Array:
    """x + value a / b"""
    return be.addcdiv(x, a, b, value)


@op(lambda g, weight: g * (1 - weight),
    lambda g, weight: g * weight,
    lambda g, x, end: g * (end - x), takes_complex=True)  # fmt: skip
def lerp(be: Backend[Array], x: Array, end: Array, weight: Array, /) -> Array:
    """x + weight (end - x), computed from the nearer of x and end."""
    return be.lerp(x, end, weight)


@op(lambda g, weight: g * (1 - weight),
    lambda g, weight: g * weight, public_name="lerp", takes_complex=True)  # fmt: skip
def lerp_by(be: Backend[Array], x: Array, end: Array, /, *, weight: complex) -> Array:
    """`lerp` by a number."""
    return be.lerp(x, end, weight)


@op(lambda g: -g, bool_fix="invert a mask with ~", takes_complex=True)
def neg(be: Backend[Array], x: Array, /) -> Array:
    """-input, elementwise. Raises DTypeError for bools."""
    return -x


@binary_op(lambda g: g,
    lambda g, be, a, b: -g * floor_quotient(be, a, b))  # fmt: skip
def remainder(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input - other * floor(input / other), elementwise: the sign is that of other, as with
    Python's %, but for a zero, whose sign is that of input. Raises ArgumentError where an integer
    is divided by 0."""
    return be.remainder(a, divisor(be, "remainder", a, b))


def floor_quotient(be: Backend, a: Any, b: Any) -> Any:
    return be.detach(be.floor_divide(a, b))


@binary_op(lambda g: g,
    lambda g, be, a, b: -g * be.detach(be.trunc(a / b)))  # fmt: skip
def fmod(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input - other * trunc(input / other), elementwise: the sign is that of input, as with C's
    fmod. Raises ArgumentError where an integer is divided by 0."""
    return be.fmod(a, divisor(be, "fmod", a, b))


@binary_op(lambda g, be: be.zeros_like(g),
    lambda g, be: be.zeros_like(g), scalars_in_float32=True)  # fmt: skip
def floor_divide(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """floor(input / other), elementwise. Raises ArgumentError where an integer is divided by 0."""
    return be.floor_divide(a, divisor(be, "floor_divide", a, b))


def divisor(be: Backend, name: str, a: Any, b: Any) -> Any:
    """Return the divisor `b`; raise if it has a 0 and the division is one of integers."""
    kind = (a if hasattr(a, "dtype") else b).dtype.kind  # not isinstance: np.float64 is a float
    if kind in "fV":
        return b
    if kind == "b":
        raise DTypeError(sentence(name, "numbers", "bool", "cast with .to()"))
    if 0 in getattr(a, "shape", ()) or 0 in getattr(b, "shape", ()):
        return b  # no elements: no division
    if b == 0 if isinstance(b, int) else be.has_zero(b):
        raise ArgumentError(sentence(name, "a divisor of integers that is not 0", 0))
    return b


@binary_op(lambda g, be: be.zeros_like(g),
    lambda g, be: be.zeros_like(g), promotion="int_to_float")  # fmt: skip
def trunc_divide(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """trunc(a / b): the quotient rounded towards 0."""
    return be.trunc(a / b)


@binary_op(lambda g, a, out: g * (a / out),
    lambda g, b, out: g * (b / out))  # fmt: skip
def hypot(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """sqrt(a^2 + b^2), without overflow of the squares."""
    return be.hypot(a, b)


@binary_op(lambda g, be, a, b: g * be.detach(masked(be, be.copysign(a, b) / a, a != 0)),
    lambda g, be: be.zeros_like(g), promotion="int_to_float")  # fmt: skip
def copysign(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """|a| with the sign of b, with derivative 0 at a = 0."""
    return be.copysign(a, b)


@binary_op(lambda g, be, a, b: masked(be, g, a != b),
    lambda g, be: be.zeros_like(g))  # fmt: skip
def nextafter(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """The next floating-point number after a in the direction of b. As in PyTorch, the derivative
    with respect to a is 1, or 0 where a = b."""
    return be.nextafter(a, b)


@op(lambda g, be, x: abs_grad(be, g, x), promotion="no_bool", takes_complex=True)
def abs(be: Backend[Array], x: Array, /) -> Array:
    """|input|, elementwise, real also of complex numbers; derivative 0 at 0."""
    return be.abs(x)


def abs_grad(be: Backend, g: Any, x: Any) -> Any:
    if not is_complex(x):
        return g * be.sign(be.detach(x))
    size = be.abs(x)
    zero = size == 0
    return g * masked(be, be.conj(x) / be.where(zero, be.full((), 1, size.dtype), size), ~zero)


@op(lambda g, be: be.zeros_like(g))
def sign(be: Backend[Array], x: Array, /) -> Array:
    """-1 where input is below 0, 1 where it is above, else 0, elementwise; derivative 0."""
    return be.sign(x) if x.dtype.kind != "b" else be.copy(x)


@op(lambda g, be: be.zeros_like(g), promotion="no_bool")
def floor(be: Backend[Array], x: Array, /) -> Array:
    """The largest integer not above input, elementwise, in the dtype of input; derivative 0."""
    return be.copy(x) if x.dtype.kind in "biu" else be.floor(x)


@op(lambda g, be: be.zeros_like(g), promotion="no_bool")
def ceil(be: Backend[Array], x: Array, /) -> Array:
    """The smallest integer not below input, elementwise, in the dtype of input; derivative 0."""
    return be.copy(x) if x.dtype.kind in "biu" else be.ceil(x)


@op(lambda g, be: be.zeros_like(g), promotion="no_bool")
def trunc(be: Backend[Array], x: Array, /) -> Array:
    """input rounded towards 0, elementwise, in the dtype of input; derivative 0."""
    return be.copy(x) if x.dtype.kind in "biu" else be.trunc(x)


@op(lambda g, be: be.zeros_like(g), promotion="no_bool")
def round(be: Backend[Array], x: Array, /) -> Array:
    """The nearest integer, halves to even."""
    return be.copy(x) if x.dtype.kind in "biu" else be.round(x)


@op(lambda g: g, public_name="to", takes_complex=True)
def astype(be: Backend[Array], x: Array, /, *, dtype: np.dtype) -> Array:
    """x cast to `dtype`; a cast from complex to real numbers takes the real part."""
    if x.dtype.kind == "c" and dtype.kind not in "cb":
        x = be.real(x)
    return be.astype(x, dtype)


@op(lambda g: g, moves="parts", takes_complex=True)
def clone(be: Backend[Array], x: Array, /) -> Array:
    """A copy with the same order of dimensions in memory."""
    return be.clone(x)


@op(lambda g: g, moves="parts", takes_complex=True)
def contiguous(be: Backend[Array], x: Array, /) -> Array:
    """A copy in row-major order."""
    return be.copy(x)


# Exponentials and logarithms -----------------------------------------------------------------


@op(lambda g, out: g * out,
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu",
    rules_of_operators=True)  # fmt: skip
def exp(be: Backend[Array], x: Array, /) -> Array:
    """e^input, elementwise."""
    return be.exp(x)


@op(lambda g, out: g * out * math.log(2), promotion="int_to_float", takes_complex=True)
def exp2(be: Backend[Array], x: Array, /) -> Array:
    """2^input, elementwise."""
    return be.exp2(x)


@op(lambda g, out: g * (out + 1),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def expm1(be: Backend[Array], x: Array, /) -> Array:
    """e^input - 1, elementwise; accurate near 0."""
    return be.expm1(x)


@op(lambda g, x: g / x,
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu",
    rules_of_operators=True)  # fmt: skip
def log(be: Backend[Array], x: Array, /) -> Array:
    """log(input), the natural logarithm, elementwise: -inf at 0, NaN below."""
    return be.log(x)


@op(lambda g, x: g / (x * math.log(2)),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def log2(be: Backend[Array], x: Array, /) -> Array:
    """log2(input), elementwise: -inf at 0, NaN below."""
    return be.log2(x)


@op(lambda g, x: g / (x * math.log(10)),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def log10(be: Backend[Array], x: Array, /) -> Array:
    """log10(input), elementwise: -inf at 0, NaN below."""
    return be.log10(x)


@op(lambda g, x: g / (x + 1),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def log1p(be: Backend[Array], x: Array, /) -> Array:
    """log(1 + input), elementwise; accurate near 0."""
    return be.log1p(x)


@binary_op(lambda g, be, a, b: g * be.sigmoid(a - b),
    lambda g, be, a, b: g * be.sigmoid(b - a),
    promotion="int_to_float", takes_complex=True)  # fmt: skip
def logaddexp(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """log(e^a + e^b)"""
    return be.logaddexp(a, b)


@op(lambda g, out: g / (out * 2),
    promotion="int_to_float", takes_complex=True, rules_of_operators=True)  # fmt: skip
def sqrt(be: Backend[Array], x: Array, /) -> Array:
    """The square root of input, elementwise: NaN below 0, derivative infinite at 0."""
    return be.sqrt(x)


@op(lambda g, out: g * (out * out * out) * -0.5,
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu",
    rules_of_operators=True)  # fmt: skip
def rsqrt(be: Backend[Array], x: Array, /) -> Array:
    """1 / sqrt(input), elementwise: inf at 0, NaN below."""
    if x.dtype in HALF_PRECISION:  # to round only once
        return be.astype(1 / be.sqrt(be.astype(x, float32.numpy)), x.dtype)
    return 1 / be.sqrt(x)


@op(lambda g, out: -g * out * out,
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu",
    rules_of_operators=True)  # fmt: skip
def reciprocal(be: Backend[Array], x: Array, /) -> Array:
    """1 / input, elementwise: inf at 0."""
    if x.dtype in HALF_PRECISION:
        return be.astype(1 / be.astype(x, float32.numpy), x.dtype)
    return 1 / x


# The error and gamma functions ---------------------------------------------------------------


@op(lambda g, be, x: g * be.exp(-x * x) * (2 / math.sqrt(math.pi)), promotion="int_to_float")
def erf(be: Backend[Array], x: Array, /) -> Array:
    """erf(input) = 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to input, elementwise."""
    return be.erf(x)


@op(lambda g, be, x: g * be.exp(-x * x) * (-2 / math.sqrt(math.pi)), promotion="int_to_float")
def erfc(be: Backend[Array], x: Array, /) -> Array:
    """1 - erf(input), elementwise; accurate where erf(input) is near 1."""
    return be.erfc(x)


@op(lambda g, be, x: g * be.exp(be.erfinv(x) ** 2) * (math.sqrt(math.pi) / 2),
    promotion="int_to_float", autocast="float32_on_gpu")  # fmt: skip
def erfinv(be: Backend[Array], x: Array, /) -> Array:
    """The inverse of erf, elementwise: -inf and inf at input -1 and 1, NaN beyond."""
    return be.erfinv(x)


@op(lambda g, be, x: g * be.digamma(x), promotion="int_to_float")
def lgamma(be: Backend[Array], x: Array, /) -> Array:
    """log |Gamma(input)|, elementwise: inf at 0 and at negative integers."""
    return be.lgamma(x)


@op(lambda g, be, x: g * be.polygamma(x, 1), promotion="int_to_float")
def digamma(be: Backend[Array], x: Array, /) -> Array:
    """The derivative of log Gamma(input), elementwise: NaN at negative integers."""
    return be.digamma(x)
