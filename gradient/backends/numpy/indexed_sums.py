"""Sums at arrays of integers: `index_add`, the gradient of an index such as `x[:, rows, columns]`,
and that of an embedding.

Arrays for the first axes select rows of a matrix, which threads share (`added_rows`). Of arrays for
adjacent later axes threads share what is before these (`put_slices`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.required import Index, Shape
from gradient.dtypes import HALF_PRECISION

CACHED = 4 << 20
"""Bytes of sums of rows up to which they are cleared by what adds to them: what is larger has left
the second cache until then, and is cleared quicker from its begin to its end."""

FEW = 32
"""Elements of an array for each index, at least, for indices that are sorted to convert only the
16-bit floats at these: else it takes less time to convert the array."""

COUNTED = 1 << 17
"""Ints that a thread counts at a time."""

CHUNK = 1 << 14
"""Elements of whole parts that a thread adds at a time."""


class IndexedSums(AttentionDefaults[np.ndarray]):
    """Overrides of `index_add`, and of `embedding_grad`, which stands on it."""

    def index_add(self, x: np.ndarray, index: Index, value: np.ndarray) -> np.ndarray:
        if x.itemsize == 2 and x.dtype in HALF_PRECISION:  # sum in float32, round once
            return self._add_in_float32(x, index, value)
        if type(index) is tuple and _are_arrays(index):
            if index[0].dtype.kind == "b" and len(index) == 1:  # no place twice
                if index[0].shape == x.shape and x.flags.carray:  # NumPy's faster index
                    x.reshape(-1)[np.flatnonzero(index[0].reshape(-1))] += value
                else:
                    x[index] += value
                return x
            found = _as_rows(x, index, value)
            if found is not None and added_rows(*found, clears=False):
                return x
        if put_slices(x, index, value, adds=True):
            return x
        return super().index_add(x, index, value)

    def _add_in_float32(self, x: np.ndarray, index: Index, value: np.ndarray) -> np.ndarray:
        """`index_add` of 16-bit floats in float32; if there are few places, these alone are
        converted."""
        wide, axes = value.astype(np.float32), _axes(index, x.ndim)
        if axes is not None and (len(axes[1]) == 1 or x.flags.carray):
            first, arrays = axes
            after = first + len(arrays)
            before: tuple[Any, ...] = (slice(None),) * first
            size = math.prod(x.shape[first:after])
            # Not if one is negative: two indices may mean the same place then.
            places = flat_places(arrays, x.shape[first:after])
            if places is not None and places.size < size and places.size * FEW <= x.size:
                rows = x.reshape(*x.shape[:first], size, *x.shape[after:])
                found, back = np.unique(places, return_inverse=True)
                some = np.take(rows, found, first).astype(np.float32)
                rows[(*before, found)] = self.index_add(
                    some, (*before, back.reshape(places.shape)), wide
                )
                return x
        x[...] = self.index_add(x.astype(np.float32), index, wide)
        return x

    def bincount(self, counts: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """By NumPy's function, of parts on all threads if there are many; sums are in float64."""
        if x.dtype.kind not in "iu" or x.dtype == np.uint64:  # which NumPy does not count
            return super().bincount(counts, x, weights)
        parts = max(1, -(-x.size // COUNTED)) if counts.size <= COUNTED // 4 else 1
        found: list[Any] = [0] * parts

        def count(part: int) -> None:
            at = slice(None) if parts == 1 else slice(part * COUNTED, (part + 1) * COUNTED)
            some = None if weights is None else weights[at]
            found[part] = np.bincount(x[at], some, counts.size)

        threads.run(parts, count)
        counts += sum(found).astype(counts.dtype, copy=False)
        return counts

    def embedding_grad(self, g: np.ndarray, indices: np.ndarray, num_embeddings: int) -> np.ndarray:
        shape = num_embeddings, g.shape[-1]
        if math.prod(shape) * g.itemsize <= CACHED:
            out = np.empty(shape, g.dtype)
            found = _as_rows(out, (indices,), g)
            if found is not None and added_rows(*found, clears=True):
                return out
        return super().embedding_grad(g, indices, num_embeddings)


def _are_arrays(index: tuple[Index, ...]) -> bool:
    return bool(index) and all(type(each) is np.ndarray for each in index)


def _as_rows(
    x: np.ndarray, index: tuple[np.ndarray, ...], value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """x as a matrix, the rows of it that indices of the first axes select, and what is added to
    each of them; None if a kernel does not take them."""
    axes = len(index)
    if not (
        axes <= x.ndim > 1
        and x.flags.carray
        and _takes(x, value)
        and all(each.dtype.kind == "i" for each in index)
    ):
        return None
    rows = index[0] if axes == 1 else flat_places(index, x.shape[:axes])
    if rows is None or value.shape != (*rows.shape, *x.shape[axes:]):
        return None
    width = math.prod(x.shape[axes:])
    return x.reshape(-1, width), rows, value.reshape(*rows.shape, width)


def _takes(x: np.ndarray, value: np.ndarray) -> bool:
    """Whether kernels add to x what may have any layout."""
    return (
        x.dtype in kernels.FLOATS
        and getattr(value, "dtype", None) == x.dtype
        and (value.size >= kernels.MIN_SIZE or (value.size > 0 and small_calls.are_repeated()))
        and kernels.available()
    )


def added_rows(x: np.ndarray, rows: np.ndarray, value: np.ndarray, clears: bool) -> bool:
    """Add to rows of x by a kernel (`clears`: x first becomes zeros); return whether it was done.
    If an index is out of range, nothing is changed, and NumPy raises the error."""
    embedding, wrong = kernels.load("embedding"), np.zeros(1, np.int64)
    parts = embedding.SHARES * -(-x.shape[1] // embedding.COLUMNS)
    threads.parallel_for(
        *(embedding.add_rows, parts, 1, x.reshape(-1), *x.shape),
        *(kernels.contiguous(rows).reshape(-1), kernels.contiguous(value).reshape(-1)),
        *(clears, wrong),
    )
    return not wrong[0]


def put_slices(x: np.ndarray, index: Index, value: np.ndarray, adds: bool) -> bool:
    """Write to x, or add to it in the order of np.add.at, by a kernel; return whether it was done.
    If an integer is negative or too large, nothing is changed."""
    found = _axes(index, x.ndim) if x.flags.carray and _takes(x, value) else None
    if found is None:
        return False
    first, arrays = found
    after = first + len(arrays)
    sizes, inner = x.shape[first:after], math.prod(x.shape[after:])
    outer = math.prod(x.shape[:first])
    places = flat_places(arrays, sizes)
    if places is None or value.shape != (*x.shape[:first], *places.shape, *x.shape[after:]):
        return False
    threads.parallel_for(
        kernels.load("embedding").put_slices, outer, max(1, CHUNK // (places.size * inner)),
        x.reshape(-1), math.prod(sizes), inner, places.reshape(-1),
        kernels.contiguous(value).reshape(-1), adds,
    )  # fmt: skip
    return True


def _axes(index: Index, ndim: int) -> tuple[int, list[np.ndarray]] | None:
    """The first axis with an array of integers, and the arrays; None unless they are side by side,
    and the index takes all of every other axis."""
    items = list(index) if isinstance(index, tuple) else [index]
    if sum(item is Ellipsis for item in items) == 1:
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[at : at + 1] = [slice(None)] * (ndim + 1 - len(items))
    places = [i for i, item in enumerate(items) if type(item) is np.ndarray]
    if not places or places[-1] - places[0] + 1 != len(places):
        return None
    others = items[: places[0]] + items[places[-1] + 1 :]
    arrays = [items[i] for i in places]
    if any(not isinstance(item, slice) or item != slice(None) for item in others):
        return None
    return (places[0], arrays) if all(a.dtype.kind == "i" for a in arrays) else None


def flat_places(arrays: Sequence[np.ndarray], sizes: Shape) -> np.ndarray | None:
    """The places in flattened axes of these sizes, int64; None if one is out of range."""
    if any(a.size == 0 or a.min() < 0 or a.max() >= n for a, n in zip(arrays, sizes, strict=True)):
        return None
    flat = arrays[0].astype(np.int64)  # of int32, places from 2^31 on would be negative
    for array, n in zip(arrays[1:], sizes[1:], strict=True):
        flat = flat * n + array
    return np.asarray(flat, order="C")
