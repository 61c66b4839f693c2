"""Ops whose results are bools, or computed bit by bit; none has a gradient."""

from __future__ import annotations

from gradient.autograd.op import binary_op, op
from gradient.backends import Array, Backend


@binary_op(takes_complex=True)
def eq(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a == b"""
    return a == b


@binary_op(takes_complex=True)
def ne(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a != b"""
    return a != b


@binary_op()
def lt(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a < b"""
    return a < b


@binary_op()
def le(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a <= b"""
    return a <= b


@binary_op()
def gt(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a > b"""
    return a > b


@binary_op()
def ge(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a >= b"""
    return a >= b


@binary_op()
def bitwise_and(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a & b"""
    return a & b


@binary_op()
def bitwise_or(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a | b"""
    return a | b


@binary_op()
def bitwise_xor(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """a ^ b"""
    return a ^ b


@op()
def bitwise_not(be: Backend[Array], x: Array, /) -> Array:
    """~x"""
    return ~x


@binary_op(takes_complex=True)
def logical_and(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """Both not zero."""
    return (a != 0) & (b != 0)


@binary_op(takes_complex=True)
def logical_or(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """One or both not zero."""
    return (a != 0) | (b != 0)


@binary_op(takes_complex=True)
def logical_xor(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """One, not both, not zero."""
    return (a != 0) ^ (b != 0)


@op(takes_complex=True)
def logical_not(be: Backend[Array], x: Array, /) -> Array:
    """Zero."""
    return x == 0


@op(takes_complex=True)
def isnan(be: Backend[Array], x: Array, /) -> Array:
    """Not a number."""
    return be.isnan(x)


@op(takes_complex=True)
def isfinite(be: Backend[Array], x: Array, /) -> Array:
    """Neither NaN nor infinite."""
    return be.isfinite(x)


@op(takes_complex=True)
def isinf(be: Backend[Array], x: Array, /) -> Array:
    """Infinite, of either sign."""
    return be.abs(x) == float("inf")
