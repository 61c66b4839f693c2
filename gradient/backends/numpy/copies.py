"""Large copies on all threads: to row-major order, and concatenation along an axis."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.base import LARGE, Backend
from gradient.backends.numpy import (
    filling,
    fused,
    indexed_sums,
    kernels,
    memory,
    one_pass,
    strided_copies,
    threads,
    transposes,
)
from gradient.backends.required import Index, Shape

_concatenate: Any = getattr(np.concatenate, "_implementation", np.concatenate)
"""NumPy's function without its look for other libraries' arrays, a seventh of its time if small."""

TRIANGLE = 1 << 16
"""Elements of whole rows that a thread takes at a time of a triangle."""

FEW_COPIES = 4
"""Copies of each element that are made one after another."""

SHORTEST = 16
"""Elements of a run from which it is copied as one."""


class CopyKernels(Backend[np.ndarray]):
    """Overrides of copies of large arrays of floats, and of zeros to be written."""

    def cleared(self, shape: Shape, dtype: np.dtype) -> np.ndarray:
        """Clear memory on all threads. `zeros` differs: it takes new pages from the system, which
        are cleared at their first use, so unused ones cost nothing. Only blocks that the process
        keeps are cleared here."""
        nbytes = math.prod(shape) * dtype.itemsize
        is_kept = filling.MANY_BYTES <= nbytes < memory.LARGEST
        if not is_kept or dtype not in kernels.FLOATS or not kernels.available():
            return np.zeros(shape, dtype)
        out = np.empty(shape, dtype)
        filling.fill(out, 0)
        return out

    def copy(self, x: np.ndarray) -> np.ndarray:
        if x.size >= transposes.MANY and type(x) is np.ndarray and x.itemsize == 2:
            bits = transposes.bits(x)
            if bits is not x:
                return self.copy(bits).view(x.dtype)
        if x.size >= transposes.MANY and type(x) is np.ndarray and x.dtype in transposes.COPIED:
            out = np.empty(x.shape, x.dtype)
            if filling.repeats_one(x):
                filling.fill(out, x[(0,) * x.ndim])
                return out
            if _reversed(x, out) or _copied(x, out) or transposes.copied(x, out):
                return out
            if kernels.awake and strided_copies.copied(x, out):
                return out
            if (
                x.ndim and x.strides[-1] == 0 and x.shape[-1] <= FEW_COPIES
            ):  # NumPy copies runs of one element
                for i in range(x.shape[-1]):
                    out[..., i] = x[..., 0]
                return out
        return np.array(x, order="C")

    def roll(self, x: np.ndarray, by: int, axis: int) -> np.ndarray:
        if x.size < LARGE:
            return super().roll(x, by, axis)
        n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
        if (
            x.dtype not in kernels.FLOATS
            or not x.flags.carray
            or min(by, n - by) * inner < 1
            or not _is_asked_for()
        ):
            return super().roll(x, by, axis)
        out, flat, row = np.empty(x.shape, x.dtype), x.reshape(-1), n * inner
        moved = by * inner
        threads.parallel_for(
            *(kernels.load("copies").join, x.size, fused.CHUNK, flat[row - moved :], moved, row),
            *(flat, row - moved, row, out.reshape(-1)),
        )
        return out

    def assign(self, x: np.ndarray, index: Index, value: Any) -> np.ndarray:
        if x.size >= LARGE and _assigned(x, index, value):
            return x
        x[index] = value
        return x

    def accumulate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if (
            x.size >= LARGE
            and _are_alike(x, y)
            and x.flags.c_contiguous
            and y.flags.carray
            and _is_asked_for()
        ):
            add, arguments = kernels.load("copies").add, (x.reshape(-1), y.reshape(-1))
            threads.parallel_for(add, x.size, fused.CHUNK, *arguments)
            return x
        x += y
        return x

    def triangle(self, x: np.ndarray, diagonal: int, lower: bool) -> np.ndarray:
        rows = x if type(x) is not np.ndarray else kernels.contiguous(x)
        if x.ndim < 2 or not kernels.supports(rows):
            return super().triangle(x, diagonal, lower)
        out, columns, height = np.empty(x.shape, x.dtype), x.shape[-1], x.shape[-2]
        diagonal = max(-height, min(diagonal, columns))  # beyond the matrix all are alike
        threads.parallel_for(
            *(kernels.load("copies").triangle, x.size // columns, -(-TRIANGLE // columns)),
            *(rows.reshape(-1), out.reshape(-1), height, columns, diagonal, lower),
        )
        return out

    def concatenate(self, arrays: list[np.ndarray], axis: int) -> np.ndarray:
        first = arrays[0]
        if (
            first.size < LARGE
            or first.dtype not in kernels.FLOATS
            or not all(_fits(x, first, axis) for x in arrays)
        ):
            out = _concatenate(arrays, axis)
            return out if out.flags.c_contiguous else np.ascontiguousarray(out)
        axis %= first.ndim
        shape = list(first.shape)
        shape[axis] = sum(x.shape[axis] for x in arrays)
        out, at = np.empty(shape, first.dtype), 0
        if len(arrays) == 2 and _joined(arrays[0], arrays[1], axis, out):
            return out
        for x in arrays:
            place = out[(slice(None),) * axis + (slice(at, at + x.shape[axis]),)]
            if not _copied(x, place):
                place[...] = x
            at += x.shape[axis]
        return out


def _reversed(x: np.ndarray, out: np.ndarray) -> bool:
    """Copy x, in row-major order but that adjacent axes are reversed, by a kernel; return whether
    it was done."""
    backwards = [n > 1 and step < 0 for n, step in zip(x.shape, x.strides, strict=True)]
    if True not in backwards or not kernels.available():
        return False
    first, stop = backwards.index(True), len(backwards) - backwards[::-1].index(True)
    straight = np.flip(x, tuple(axis for axis, back in enumerate(backwards) if back))
    between = zip(backwards[first:stop], x.shape[first:stop], strict=True)
    if not straight.flags.carray or any(n > 1 and not back for back, n in between):
        return False
    n, inner = math.prod(x.shape[first:stop]), math.prod(x.shape[stop:])
    threads.parallel_for(
        *(kernels.load("copies").reverse, x.size // inner, max(1, fused.CHUNK // inner)),
        *(straight.reshape(-1), out.reshape(-1), n, inner),
    )
    return True


def _is_whole(index: Index) -> bool:
    return index is Ellipsis or (type(index) is tuple and not index)


def _assigned(x: np.ndarray, index: Index, value: Any) -> bool:
    """Whether a quicker way than NumPy's index has written to a large x."""
    if _is_whole(index):
        return _are_alike(x, value) and _copied(value, x)
    if _is_mask(index, x):
        mask: Any = index[0] if type(index) is tuple else index
        x.reshape(-1)[np.flatnonzero(mask.reshape(-1))] = value  # a quarter of the time
        return True
    return (
        type(index) is tuple
        and len(index) > 1
        and type(index[-1]) is np.ndarray
        and type(value) is np.ndarray
        and not np.may_share_memory(x, value)
        and indexed_sums.put_slices(x, index, value, adds=False)
    )


def _is_mask(index: Index, x: np.ndarray) -> bool:
    """Whether an index is one array of bools of x's shape, and x in row-major order."""
    mask: Any = index[0] if type(index) is tuple and len(index) == 1 else index
    return (
        type(mask) is np.ndarray
        and mask.dtype.kind == "b"
        and mask.shape == x.shape
        and x.flags.carray
    )


def _are_alike(x: np.ndarray, other: Any) -> bool:
    """Whether `other` can be written to x, or added to it, by a kernel: an array of the same shape
    and dtype in other memory."""
    return (
        type(x) is type(other) is np.ndarray
        and x.shape == other.shape
        and x.dtype == other.dtype
        and x.dtype in kernels.FLOATS
        and x.flags.behaved
        and other.flags.aligned
        and not np.may_share_memory(x, other)
    )


def _fits(x: Any, first: np.ndarray, axis: int) -> bool:
    """Whether x is in row-major order (otherwise the result may not be), and can be joined to
    `first`."""
    shape, own = list(first.shape), list(getattr(x, "shape", ()))
    if type(x) is not np.ndarray or len(own) != len(shape) or not -len(own) <= axis < len(own):
        return False
    shape[axis] = own[axis] = 0
    return own == shape and x.dtype == first.dtype and x.flags.c_contiguous


def _joined(a: np.ndarray, b: np.ndarray, axis: int, out: np.ndarray) -> bool:
    """Copy two arrays to their places in one pass by a kernel; return whether it was done."""
    n, m = (math.prod(x.shape[axis:]) for x in (a, b))
    if min(n, m) < SHORTEST or not _is_asked_for():
        return False
    arguments = a.reshape(-1), n, n, b.reshape(-1), m, m, out.reshape(-1)
    threads.parallel_for(kernels.load("copies").join, out.size, fused.CHUNK, *arguments)
    return True


def _is_asked_for() -> bool:
    """Whether there have been enough copies to load the kernels."""
    one_pass.calls["copy_runs"] += 1
    return one_pass.calls["copy_runs"] > one_pass.PATIENCE and kernels.available()


def _copied(x: np.ndarray, out: np.ndarray) -> bool:
    """Copy x to `out`, of the same shape, by a kernel; return whether it was done."""
    walk = _walk(x.shape, x.strides, out.strides, x.itemsize)
    if walk is None or x.size < LARGE or not _is_asked_for():
        return False
    threads.parallel_for(*_launch(x, out, walk))
    return True


def launch(x: np.ndarray, out: np.ndarray) -> tuple[Any, ...] | None:
    """The arguments of `parallel_for` to copy x to `out`; None if NumPy should: for small arrays,
    other dtypes, or unsuitable strides."""
    found = _launch_of_runs(x, out) or transposes.launch(x, out)
    return found or strided_copies.launch(x, out)


def _launch_of_runs(x: np.ndarray, out: np.ndarray) -> tuple[Any, ...] | None:
    if x.size < LARGE or x.shape != out.shape or x.dtype != out.dtype:
        return None
    if x.dtype not in kernels.FLOATS or not kernels.available():
        return None
    walk = _walk(x.shape, x.strides, out.strides, x.itemsize)
    return None if walk is None else _launch(x, out, walk)


def _launch(x: np.ndarray, out: np.ndarray, walk: _Walk) -> tuple[Any, ...]:
    places = _flat(x, *walk.source), walk.steps, _flat(out, *walk.place), walk.place_steps
    kernel, chunk = kernels.load("copies").copy_runs, max(1, fused.CHUNK // walk.n)
    arguments = places[0], *places[1], places[2], *places[3], *walk.sizes, walk.n, walk.repeats
    return kernel, walk.runs, chunk, *arguments


class _Walk(NamedTuple):
    """A joint traversal of two arrays: runs of n elements, along three axes."""

    runs: int
    sizes: tuple[int, int]
    """Runs along the last two axes."""
    n: int
    repeats: bool
    """Whether a run of the first array is one element."""
    steps: tuple[int, ...]
    """The first array's strides along the three axes, in elements."""
    place_steps: tuple[int, ...]
    source: tuple[int, tuple[int, ...] | None]
    """For `_flat`: the span of the first array's memory, and the order of its axes in memory."""
    place: tuple[int, tuple[int, ...] | None]


@functools.lru_cache(maxsize=1024)
def _walk(
    shape: tuple[int, ...], source: tuple[int, ...], place: tuple[int, ...], itemsize: int
) -> _Walk | None:
    """The traversal of arrays of a shape and strides; None if runs are short, or there are more
    than three axes."""
    found = _runs(shape, source, place, itemsize)
    if found is None:
        return None
    (sizes, steps, place_steps), n, step = found
    spans = [
        sum((k - 1) * s for k, s in zip(sizes, strides, strict=True)) + length
        for strides, length in ((steps, n if step else 1), (place_steps, n))
    ]
    orders = [_order(shape, strides, itemsize) for strides in (source, place)]
    return _Walk(
        *(math.prod(sizes), (sizes[1], sizes[2]), n, step == 0, tuple(steps), tuple(place_steps)),
        *zip(spans, orders, strict=True),
    )


def _order(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[int, ...] | None:
    """The order of axes in which an array is contiguous; None if there is none."""
    order = tuple(sorted(range(len(shape)), key=lambda i: (-strides[i], shape[i] > 1)))
    expected = itemsize
    for i in reversed(order):
        if shape[i] != 1 and strides[i] != expected:
            return None
        expected *= shape[i]
    return order


def _flat(x: np.ndarray, span: int, order: tuple[int, ...] | None) -> np.ndarray:
    """The memory of an array as a flat array, by the fastest way."""
    if order is None or not x.flags.behaved:
        return fused.flat(x, span)
    return x.transpose(order).reshape(-1)


def _runs(
    shape: Sequence[int], source: Sequence[int], place: Sequence[int], itemsize: int
) -> tuple[tuple[list[int], list[int], list[int]], int, int] | None:
    """The traversal of arrays of a shape and strides: sizes and both strides, in elements, of three
    axes of runs, the length of a run, and the first array's stride in it, 1 or 0. None if runs are
    short, or there are more axes."""
    merged: list[tuple[int, int, int]] = []
    for n, s, t in zip(shape, source, place, strict=True):
        if n == 1:
            continue
        if min(s, t) < 0 or s % itemsize or t % itemsize:
            return None
        s, t = s // itemsize, t // itemsize
        if merged and merged[-1][1:] == (s * n, t * n):
            merged[-1] = (merged[-1][0] * n, s, t)
        else:
            merged.append((n, s, t))
    if not merged or merged[-1][1] > 1 or merged[-1][2] != 1 or len(merged) > 4:
        return None
    n, step, _ = merged.pop()
    if n < SHORTEST:
        return None
    if n > 2 * fused.CHUNK and len(merged) < 3 and n % fused.CHUNK == 0:
        merged.append((n // fused.CHUNK, step * fused.CHUNK, fused.CHUNK))  # parts for threads
        n = fused.CHUNK
    merged = [(1, 0, 0)] * (3 - len(merged)) + merged
    return ([m[0] for m in merged], [m[1] for m in merged], [m[2] for m in merged]), n, step
