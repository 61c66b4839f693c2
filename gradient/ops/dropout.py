"""Dropout, whose mask is no array but a place in a stream of random numbers."""

from __future__ import annotations

from gradient.autograd.op import op
from gradient.backends import Array, Backend


@op(lambda g, be, key, offset, p: be.dropout(key, offset, g, p)[0])
def dropout(be: Backend[Array], x: Array, /, *, key: int, offset: int, p: float) -> Array:
    """x times 0 with probability p, else times 1 / (1 - p): drawn alike in the gradient."""
    return be.dropout(key, offset, x, p)[0]
