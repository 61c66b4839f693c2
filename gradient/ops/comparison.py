"""Ops whose results are bools, or computed bit by bit; none has a gradient."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

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
    """Whether input is NaN, elementwise, as a bool tensor; of complex numbers, either part."""
    return be.isnan(x)


@op(takes_complex=True)
def isfinite(be: Backend[Array], x: Array, /) -> Array:
    """Whether input is neither NaN nor infinite, elementwise, as a bool tensor."""
    return be.isfinite(x)


@op(takes_complex=True)
def isinf(be: Backend[Array], x: Array, /) -> Array:
    """Whether input is infinite, of either sign, elementwise, as a bool tensor."""
    return be.abs(x) == float("inf")
