"""Fourier transforms of many rows by kernels; of a few, and other lengths, by NumPy in parts on the
pool's threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.composed.complex_numbers import (
    ComplexDefaults,
    complex_dtype,
    parts_dtype,
    scale_of,
)
from gradient.backends.numpy import kernels, threads, transposes, workspace
from gradient.backends.required import Shape

LARGE = 1 << 15
"""Numbers from which on waking the threads pays."""

MANY = 1 << 12
"""Numbers from which a kernel is quicker than NumPy."""

LONGEST = 1 << 14
"""Numbers of a row up to which a group of rows stays in the second cache, or nearly."""

LARGEST_FACTOR = 31
"""Of a row's length: a pass of this radix takes as many products for each number."""

CHUNK = 1 << 14
"""Numbers of whole groups that a thread takes at a time."""

Transform = Callable[[np.ndarray, np.ndarray], object]


class FourierKernels(ComplexDefaults[np.ndarray]):
    """Overrides of the transforms."""

    def fft(self, x: np.ndarray, axes: Shape, inverse: bool, norm: Any) -> np.ndarray:
        if axes and all(_takes(x, axis, x.shape[axis], "FD") for axis in axes):
            for i, axis in enumerate(axes):
                made = workspace.result if i == len(axes) - 1 else workspace.empty
                out = made(x.shape, x.dtype)
                _complex(x, axis % x.ndim, inverse, scale_of(norm, x.shape[axis], inverse), out)
                x = out
            return x
        whole = np.fft.ifftn if inverse else np.fft.fftn

        def transform(some: np.ndarray, out: np.ndarray) -> None:
            whole(some, None, axes, norm, out)

        rest = _longest(x, axes)
        if rest is None:
            return super().fft(x, axes, inverse, norm)
        return _in_parts(transform, x, rest, np.empty(x.shape, complex_dtype(x.dtype)))

    def rfft(self, x: np.ndarray, axis: int, norm: Any) -> np.ndarray:
        n = x.shape[axis]
        if n >= SHORTEST and _takes(x, axis, n, "fd"):
            kind, dtype = kernels.load("fourier").REAL_ROWS, complex_dtype(x.dtype)
            return _rows(kind, x, axis, n, n // 2 + 1, dtype, scale_of(norm, n, False))
        rest = _longest(x, (axis,))
        if rest is None:
            return super().rfft(x, axis, norm)
        shape = _with(x.shape, axis, n // 2 + 1)
        out = np.empty(shape, complex_dtype(x.dtype))
        return _in_parts(lambda some, to: np.fft.rfft(some, None, axis, norm, to), x, rest, out)

    def irfft(self, x: np.ndarray, axis: int, n: int, norm: Any) -> np.ndarray:
        if n >= SHORTEST and _takes(x, axis, n, "FD"):
            kind, dtype = kernels.load("fourier").REAL_TERMS, parts_dtype(x.dtype)
            return _rows(kind, x, axis, n, n, dtype, scale_of(norm, n, True))
        rest = _longest(x, (axis,))
        if rest is None:
            return super().irfft(x, axis, n, norm)
        out = np.empty(_with(x.shape, axis, n), parts_dtype(x.dtype))
        return _in_parts(lambda some, to: np.fft.irfft(some, n, axis, norm, to), x, rest, out)


SHORTEST = 4
"""Real numbers of a row, at least, that the kernel transforms."""


# By the kernel ---------------------------------------------------------------------------------


class _Passes:
    """The passes of a transform of n complex terms: `kernels.fourier.transform` says what these
    arrays are."""

    def __init__(self, n: int, char: str) -> None:
        self.radices = np.array(_radices(n), np.int64)
        parts, left = [], n
        for radix in self.radices.tolist():
            m = left // radix
            parts.append(_waves(np.outer(np.arange(m), np.arange(1, radix)), left))
            if radix not in (2, 4):
                parts.append(_waves(np.arange(radix), radix))
            left = m
        self.turns = np.concatenate([*parts, np.empty(0)]).astype(char)


def _waves(numbers: np.ndarray, n: int) -> np.ndarray:
    """cos and -sin of 2 pi k / n for each of some numbers k, flat, in float64."""
    angles = numbers.reshape(-1) % n * (2 * math.pi / n)
    return np.stack([np.cos(angles), -np.sin(angles)], 1).reshape(-1)


def _radices(n: int) -> list[int]:
    """Fours as far as possible, then the prime factors of the rest."""
    found: list[int] = []
    for radix in (4, *range(2, LARGEST_FACTOR + 1)):
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found


@functools.lru_cache(maxsize=64)
def _passes_of(n: int, char: str) -> _Passes:
    return _Passes(n, char)


@functools.lru_cache(maxsize=64)
def _waves_of(n: int, char: str) -> np.ndarray:
    return _waves(np.arange(n // 4 + 1), n).astype(char)


@functools.cache
def _is_smooth(n: int) -> bool:
    return 1 < n <= LONGEST and math.prod(_radices(n)) == n


def _takes(x: Any, axis: int, n: int, chars: str) -> bool:
    """Whether the kernel makes transforms of n numbers along an axis: of enough rows to fill
    vectors, and of a length with small prime factors."""
    return (
        type(x) is np.ndarray
        and x.size >= MANY
        and x.dtype.char in chars
        and -x.ndim <= axis < x.ndim
        and _is_smooth(n)
        and 2 * x.size * x.itemsize >= x.shape[axis] * kernels.load("cpu").BYTES
        and kernels.available()
    )


def _launch(
    kind: int, x: np.ndarray, columns: int, n: int, inner: int, inverse: bool, scale: float,
    out: np.ndarray,
) -> None:  # fmt: skip
    family, char = kernels.load("fourier"), parts_dtype(out.dtype).char
    halved = kind >= family.REAL_ROWS and n % 2 == 0
    passes = _passes_of(n // 2 if halved else n, char)
    waves = _waves_of(n, char) if halved else passes.turns
    width = kernels.load("cpu").BYTES // parts_dtype(out.dtype).itemsize
    x_terms = x.shape[-1]
    threads.parallel_for(
        family.transform, -(-columns // width), max(1, CHUNK // (n * width)), kind,
        _parts(x), columns, n, inner, x_terms, passes.radices, passes.turns, waves, inverse,
        float(scale), _parts(out),
    )  # fmt: skip


def _parts(x: np.ndarray) -> np.ndarray:
    """The real numbers of a contiguous array, flat."""
    return x.reshape(-1).view(parts_dtype(x.dtype))


def _complex(x: np.ndarray, axis: int, inverse: bool, scale: float, out: np.ndarray) -> None:
    family, n = kernels.load("fourier"), x.shape[axis]
    x, inner = _contiguous(x), math.prod(x.shape[axis + 1 :])
    kind = family.COMPLEX_ROWS if inner == 1 else family.COMPLEX_COLUMNS
    _launch(kind, x, x.size // n, n, inner, inverse, scale, out)


def _rows(
    kind: int, x: np.ndarray, axis: int, n: int, terms: int, dtype: Any, scale: float
) -> np.ndarray:
    """Transforms between real numbers and terms along an axis, of which the result has `terms`."""
    inverse = kind == kernels.load("fourier").REAL_TERMS
    turned = _contiguous(np.moveaxis(x, axis, -1))
    shape, rows = (*turned.shape[:-1], terms), math.prod(turned.shape[:-1])
    if axis % x.ndim == x.ndim - 1:
        out = workspace.result(shape, dtype)
        _launch(kind, turned, rows, n, 1, inverse, scale, out)
        return out
    out = workspace.empty(shape, dtype)
    _launch(kind, turned, rows, n, 1, inverse, scale, out)
    placed = workspace.result(_with(x.shape, axis, terms), dtype)
    np.copyto(placed, np.moveaxis(out, -1, axis))
    return placed


def _contiguous(x: np.ndarray) -> np.ndarray:
    if x.flags.carray:
        return x
    made = workspace.empty(x.shape, x.dtype)
    if x.dtype.kind == "c" or not transposes.copied(x, made):
        np.copyto(made, x)
    return made


# By NumPy --------------------------------------------------------------------------------------


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
