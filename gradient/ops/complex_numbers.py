"""Ops that convert between complex numbers and their real and imaginary parts.

A gradient inside the engine is the plain derivative: dL/dx - i dL/dy for z = x + i y. (Users see
its conjugate, as in PyTorch; see `gradient.autograd.engine`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradient.autograd.op import op
from gradient.backends.composed.shared import is_complex

if TYPE_CHECKING:
    from gradient.backends import Array, Backend


@op(lambda g, be: be.conj(be.view_as_complex(g)), takes_complex=True)
def view_as_real(be: Backend[Array], x: Array, /) -> Array:
    """Complex (...) as real and imaginary parts (..., 2): a view."""
    return be.view_as_real(x)


@op(lambda g, be: be.view_as_real(be.conj(g)), promotion="float_only")
def view_as_complex(be: Backend[Array], x: Array, /) -> Array:
    """Real and imaginary parts (..., 2) as complex (...): a view."""
    return be.view_as_complex(x)


@op(lambda g, be: be.real(g),
    lambda g, be: -be.imag(g), promotion="same_float", public_name="complex")  # fmt: skip
def from_parts(be: Backend[Array], real: Array, imag: Array, /) -> Array:
    """real + i imag"""
    if real.shape != imag.shape:
        shape = np.broadcast_shapes(real.shape, imag.shape)
        real, imag = be.broadcast_to(real, shape), be.broadcast_to(imag, shape)
    return be.complex(real, imag)


@op(lambda g, be: be.conj(g), takes_complex=True)
def conj(be: Backend[Array], x: Array, /) -> Array:
    """The complex conjugate."""
    if not is_complex(x):
        raise TypeError("expected complex numbers")
    return be.conj(x)
