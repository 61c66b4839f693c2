"""Fourier transforms by NumPy, whose functions use one thread, in parts on the pool's threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.composed.complex_numbers import ComplexDefaults, complex_dtype, parts_dtype
from gradient.backends.numpy import threads
from gradient.backends.required import Shape

LARGE = 1 << 15
"""Numbers from which on waking the threads pays."""

Transform = Callable[[np.ndarray, np.ndarray], object]


class FourierOnThreads(ComplexDefaults[np.ndarray]):
    """Overrides of the transforms."""

    def fft(self, x: np.ndarray, axes: Shape, inverse: bool, norm: Any) -> np.ndarray:
        whole = np.fft.ifftn if inverse else np.fft.fftn

        def transform(some: np.ndarray, out: np.ndarray) -> None:
            whole(some, None, axes, norm, out)

        rest = _longest(x, axes)
        if rest is None:
            return super().fft(x, axes, inverse, norm)
        return _in_parts(transform, x, rest, np.empty(x.shape, complex_dtype(x.dtype)))

    def rfft(self, x: np.ndarray, axis: int, norm: Any) -> np.ndarray:
        rest = _longest(x, (axis,))
        if rest is None:
            return super().rfft(x, axis, norm)
        shape = _with(x.shape, axis, x.shape[axis] // 2 + 1)
        out = np.empty(shape, complex_dtype(x.dtype))
        return _in_parts(lambda some, to: np.fft.rfft(some, None, axis, norm, to), x, rest, out)

    def irfft(self, x: np.ndarray, axis: int, n: int, norm: Any) -> np.ndarray:
        rest = _longest(x, (axis,))
        if rest is None:
            return super().irfft(x, axis, n, norm)
        out = np.empty(_with(x.shape, axis, n), parts_dtype(x.dtype))
        return _in_parts(lambda some, to: np.fft.irfft(some, n, axis, norm, to), x, rest, out)


def _longest(x: np.ndarray, axes: Shape) -> int | None:
    """The longest other axis, if a large array has one: slices along it are transformed alone."""
    if x.size < LARGE or x.dtype.char not in "fdFD" or threads.get_num_threads() == 1:
        return None
    others = set(range(x.ndim)) - {axis % x.ndim for axis in axes}
    longest = max(others, key=lambda axis: x.shape[axis], default=None)
    return None if longest is None or x.shape[longest] == 1 else longest


def _with(shape: Shape, axis: int, size: int) -> Shape:
    changed = list(shape)
    changed[axis] = size
    return tuple(changed)


def _in_parts(transform: Transform, x: np.ndarray, axis: int, out: np.ndarray) -> np.ndarray:
    before = (slice(None),) * axis
    parts = min(threads.get_num_threads(), x.shape[axis])
    ends = [i * x.shape[axis] // parts for i in range(parts + 1)]

    def part(i: int) -> None:
        some = (*before, slice(ends[i], ends[i + 1]))
        transform(x[some], out[some])

    threads.run(parts, part)
    return out
