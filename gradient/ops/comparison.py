"""Comparisons and bitwise ops, without gradients; and ops that select elements by a comparison:
`maximum`, `minimum`, `where`, `clamp`."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from gradient.autograd.op import binary_op, op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend


@binary_op(takes_complex=True, operator=operator.eq)
def eq(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input == other, elementwise, as a bool tensor."""
    return a == b


@binary_op(takes_complex=True, operator=operator.ne)
def ne(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input != other, elementwise, as a bool tensor."""
    return a != b


@binary_op(operator=operator.lt)
def lt(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input < other, elementwise, as a bool tensor."""
    return a < b


@binary_op(operator=operator.le)
def le(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input <= other, elementwise, as a bool tensor."""
    return a <= b


@binary_op(operator=operator.gt)
def gt(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input > other, elementwise, as a bool tensor."""
    return a > b


@binary_op(operator=operator.ge)
def ge(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input >= other, elementwise, as a bool tensor."""
    return a >= b


@binary_op()
def bitwise_and(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input & other, elementwise, of integers bit by bit or of bools; no gradient."""
    return a & b


@binary_op()
def bitwise_or(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input | other, elementwise, of integers bit by bit or of bools; no gradient."""
    return a | b


@binary_op()
def bitwise_xor(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """input ^ other, elementwise, of integers bit by bit or of bools; no gradient."""
    return a ^ b


@op()
def bitwise_not(be: Backend[Array], x: Array, /) -> Array:
    """~input, elementwise: all bits of integers inverted, or bools; no gradient."""
    return ~x


@binary_op(takes_complex=True)
def logical_and(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """Whether input and other are both not 0, elementwise, as a bool tensor."""
    return (a != 0) & (b != 0)


@binary_op(takes_complex=True)
def logical_or(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """Whether input or other is not 0, elementwise, as a bool tensor."""
    return (a != 0) | (b != 0)


@binary_op(takes_complex=True)
def logical_xor(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """Whether exactly one of input and other is not 0, elementwise, as a bool tensor."""
    return (a != 0) ^ (b != 0)


@op(takes_complex=True)
def logical_not(be: Backend[Array], x: Array, /) -> Array:
    """Whether input is 0, elementwise, as a bool tensor."""
    return x == 0


@op(takes_complex=True)
def isnan(be: Backend[Array], x: Array, /) -> Array:
    """Whether input, or a part of a complex input, is NaN, elementwise, as a bool tensor."""
    return be.isnan(x)


@op(takes_complex=True)
def isfinite(be: Backend[Array], x: Array, /) -> Array:
    """Whether input is neither NaN nor infinite, elementwise, as a bool tensor."""
    return be.isfinite(x)


@op(takes_complex=True)
def isinf(be: Backend[Array], x: Array, /) -> Array:
    """Whether input is infinite, of either sign, elementwise, as a bool tensor."""
    return be.abs(x) == float("inf")


# Selection ----------------------------------------------------------------------------------------


@binary_op(lambda g, be, a, b: split_at_ties(be, g, a < b, a == b),
    lambda g, be, a, b: split_at_ties(be, g, b < a, a == b))  # fmt: skip
def maximum(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """The larger; at a tie each gets half of the gradient, and at NaN both get all of it."""
    return be.maximum(a, b)


@binary_op(lambda g, be, a, b: split_at_ties(be, g, b < a, a == b),
    lambda g, be, a, b: split_at_ties(be, g, a < b, a == b))  # fmt: skip
def minimum(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """The smaller; at a tie each gets half of the gradient, and at NaN both get all of it."""
    return be.minimum(a, b)


def split_at_ties(be: Backend, g: Any, loses: Any, ties: Any) -> Any:
    return be.where(loses, be.full((), 0, g.dtype), be.where(ties, g * 0.5, g))


@binary_op(lambda g, be, condition: be.where(condition, g, be.full((), 0, g.dtype)),
    lambda g, be, condition: be.where(condition, be.full((), 0, g.dtype), g),
    takes_complex=True)  # fmt: skip
def where(be: Backend[Array], a: Array, b: Array, /, *, condition: Any) -> Array:
    """a where `condition` (a bool array) is true, else b."""
    return be.where(condition, a, b)


@op(lambda g, be, x, min, max: be.clamp_grad(g, x, min, max))
def clamp(
    be: Backend[Array], x: Array, /, *, min: float | None = None, max: float | None = None
) -> Array:
    """x clamped to [min, max]; if min > max, the result is `max`. At a bound g goes through."""
    return be.clamp(x, min, max)


@op(lambda g, be, x, min, max: masked(be, g, inside(x, min, max)),
    lambda g, be, x, min, max: masked(be, g, below(x, min, max)),
    lambda g, be, x, min, max: masked(be, g, above(x, min, max)))  # fmt: skip
def clamp_between(
    be: Backend[Array], x: Array, min: Array | None = None, max: Array | None = None, /
) -> Array:
    """`clamp` with tensors as bounds; the gradient goes to the input that is the result."""
    if min is not None:
        x = be.maximum(x, min)
    return x if max is None else be.minimum(x, max)


def masked(be: Backend, g: Any, condition: Any) -> Any:
    """g where `condition` is true, else 0. (A product with 0 would be NaN if g is infinite.)"""
    return be.where(condition, g, be.full((), 0, g.dtype))


def inside(x: Any, low: Any, high: Any) -> Any:
    if low is None:
        return x <= high
    return x >= low if high is None else (x >= low) & (x <= high)


def below(x: Any, low: Any, high: Any) -> Any:
    return x < low if high is None else (x < low) & (low < high)


def above(x: Any, low: Any, high: Any) -> Any:
    return x > high if low is None else (x > high) | (high < low)
