"""Trigonometric and hyperbolic functions, each with its derivative beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.op import binary_op, op
from gradient.backends.composed.shared import is_complex

if TYPE_CHECKING:
    from gradient.backends import Array, Backend


@op(lambda g, be, x: g * be.cos(x), promotion="int_to_float", takes_complex=True)
def sin(be: Backend[Array], x: Array, /) -> Array:
    """sin(input) of radians, elementwise."""
    return be.sin(x)


@op(lambda g, be, x: -g * be.sin(x), promotion="int_to_float", takes_complex=True)
def cos(be: Backend[Array], x: Array, /) -> Array:
    """cos(input) of radians, elementwise."""
    return be.cos(x)


@op(lambda g, out: g * (1 + out * out),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def tan(be: Backend[Array], x: Array, /) -> Array:
    """tan(input) of radians, elementwise."""
    return be.tan(x)


@op(lambda g, be, x: g / be.sqrt(1 - x * x),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def asin(be: Backend[Array], x: Array, /) -> Array:
    """asin(input), elementwise, from -pi/2 to pi/2; NaN where |input| > 1."""
    return be.arcsin(x)


@op(lambda g, be, x: -g / be.sqrt(1 - x * x),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def acos(be: Backend[Array], x: Array, /) -> Array:
    """acos(input), elementwise, from 0 to pi; NaN where |input| > 1."""
    return be.arccos(x)


@op(lambda g, x: g / (1 + x * x), promotion="int_to_float", takes_complex=True)
def atan(be: Backend[Array], x: Array, /) -> Array:
    """atan(input), elementwise, from -pi/2 to pi/2."""
    return be.arctan(x)


@binary_op(lambda g, be, a, b: g * (b * inverse_square(be, a, b)),
    lambda g, be, a, b: g * (-a * inverse_square(be, a, b)),
    promotion="int_to_float")  # fmt: skip
def atan2(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """The angle of the point (b, a), with derivative 0 at the origin."""
    return be.arctan2(a, b)


def inverse_square(be: Backend, a: Any, b: Any) -> Any:
    """1 / (a^2 + b^2); 0 at the origin."""
    square = a * a + b * b
    origin = square == 0
    one, zero = be.full((), 1, square.dtype), be.full((), 0, square.dtype)
    return be.where(origin, zero, 1 / be.where(origin, one, square))


@op(lambda g, be, x: g * be.cosh(x),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def sinh(be: Backend[Array], x: Array, /) -> Array:
    """sinh(input) = (e^input - e^-input) / 2, elementwise."""
    return be.sinh(x)


@op(lambda g, be, x: g * be.sinh(x),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def cosh(be: Backend[Array], x: Array, /) -> Array:
    """cosh(input) = (e^input + e^-input) / 2, elementwise."""
    return be.cosh(x)


@op(lambda g, out: g * (1 - out * out),
    promotion="int_to_float", takes_complex=True, rules_of_operators=True)  # fmt: skip
def tanh(be: Backend[Array], x: Array, /) -> Array:
    """tanh(input) = sinh(input) / cosh(input), elementwise."""
    return be.tanh(x)


@op(lambda g, be, x: g / be.sqrt(x * x + 1), promotion="int_to_float", takes_complex=True)
def asinh(be: Backend[Array], x: Array, /) -> Array:
    """asinh(input), the inverse of sinh, elementwise."""
    return be.arcsinh(x)


@op(lambda g, be, x: acosh_grad(be, g, x), promotion="int_to_float", takes_complex=True)
def acosh(be: Backend[Array], x: Array, /) -> Array:
    """acosh(input), the inverse of cosh, elementwise; NaN where input < 1."""
    return be.arccosh(x)


def acosh_grad(be: Backend, g: Any, x: Any) -> Any:
    if is_complex(x):  # two roots: the root of the product is on another branch
        return g / (be.sqrt(x - 1) * be.sqrt(x + 1))
    # + 0 turns the product at x = -1, which is -0, into 0, whose root is not -0.
    return g / be.sqrt((x - 1) * (x + 1) + 0)


@op(lambda g, x: g / (1 - x * x), promotion="int_to_float", takes_complex=True)
def atanh(be: Backend[Array], x: Array, /) -> Array:
    """atanh(input), the inverse of tanh, elementwise: -inf and inf at -1 and 1, NaN beyond."""
    return be.arctanh(x)
