"""Discrete Fourier transforms. Their matrices are symmetric, so the gradient is a transform too.
`norm` says which direction is divided by the number of elements (see `composed.scale_of`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.op import op
from gradient.backends.composed.complex_numbers import mirrored, parts_dtype

if TYPE_CHECKING:
    from gradient.backends import Array, Backend

OPPOSITE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}
"""The `norm` that gives the opposite direction the same factor."""


@op(lambda g, be, axes, inverse, norm: be.fft(g, axes, inverse, norm), takes_complex=True)
def fft(
    be: Backend[Array], x: Array, /, *, axes: tuple[int, ...], inverse: bool, norm: str
) -> Array:
    """The Fourier transform of complex numbers along `axes`, or its inverse."""
    return be.fft(x, axes, inverse, norm)


@op(lambda g, be, x_shape, axis, norm: rfft_grad(be, g, x_shape[axis], axis, norm),
    promotion="float_only")  # fmt: skip
def rfft(be: Backend[Array], x: Array, /, *, axis: int, norm: str) -> Array:
    """The first n // 2 + 1 terms of the transform of n real numbers along `axis`."""
    return be.rfft(x, axis, norm)


@op(lambda g, be, axis, n, norm: irfft_grad(be, g, axis, n, norm), takes_complex=True)
def irfft(be: Backend[Array], x: Array, /, *, axis: int, n: int, norm: str) -> Array:
    """The n real numbers along `axis` whose transform begins with the n // 2 + 1 terms of x."""
    return be.irfft(x, axis, n, norm)


def rfft_grad(be: Backend, g: Any, n: int, axis: int, norm: str) -> Any:
    """The real part of the transform of g, by `irfft`. It counts each term that stands for two
    twice, so these are halved first."""
    return be.irfft(conjugate_times(be, g, 1 / mirrored(n), axis), axis, n, OPPOSITE[norm])


def irfft_grad(be: Backend, g: Any, axis: int, n: int, norm: str) -> Any:
    return conjugate_times(be, be.rfft(g, axis, OPPOSITE[norm]), mirrored(n), axis)


def conjugate_times(be: Backend, x: Any, numbers: np.ndarray, axis: int) -> Any:
    """The conjugate of x times real numbers along an axis, such as how often each term of `rfft`
    occurs in the whole transform; in one pass over x."""
    shape = [1] * (len(x.shape) + 1)
    shape[axis % len(x.shape)], shape[-1] = len(numbers), 2
    both = np.stack([numbers, -numbers], 1).astype(parts_dtype(x.dtype)).reshape(shape)
    return be.view_as_complex(be.view_as_real(x) * be.asarray(both))
