"""Sorting, top-k without a full sort, and look-up of rows, for large arrays."""

from __future__ import annotations

import numpy as np

from gradient.backends.base import LARGE
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.integer_order import order_of_integers
from gradient.backends.numpy.kernels import INT64
from gradient.dtypes import HALF_PRECISION

MIN_SIZE = 1024
"""Elements along the axis from which NumPy finds the k-th, and compares, quicker than it sorts."""

FEW = 64
"""The k up to which a kernel keeps the best in order while it passes over a row."""


CHUNK = 1 << 12
"""Elements of whole rows that a thread sorts at a time."""

SOUGHT = 1 << 10
"""Elements of whole rows in which a thread seeks the best at a time: some 4 us."""

SHORT = 64
"""Elements of a row up to which its two best are sought without a branch."""

ONE_THREAD = 1 << 12
"""Elements up to which one thread seeks them all: to wake another would take as long."""

TAKEN = 1 << 14
"""Elements of whole rows that a thread copies at a time."""


class SelectionKernels(ShapeDefaults[np.ndarray]):
    """Overrides for `NumpyBackend`: top-k of 50,000 logits takes a tenth of the time of a sort."""

    def argsort(self, x: np.ndarray, axis: int) -> np.ndarray:
        if x.size >= kernels.MIN_SIZE and x.dtype.kind in "iu":
            found = order_of_integers(np.moveaxis(x, axis, -1))
            if found is not None:
                return np.ascontiguousarray(np.moveaxis(found, -1, axis))
        if not _sorts(x):
            return super().argsort(x, axis)
        rows = kernels.contiguous(np.moveaxis(x, axis, -1).astype(np.float32, copy=False))
        places, n = np.empty(rows.shape, np.int64), rows.shape[-1]
        threads.parallel_for(
            kernels.load("sorting").argsort, rows.size // n, max(1, CHUNK // n),
            rows.view(np.uint32).reshape(-1, n), places.reshape(-1, n),
        )  # fmt: skip
        return np.ascontiguousarray(np.moveaxis(places, -1, axis))

    def rows(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        found = rows_of(x, index) if type(index) is np.ndarray and takes_rows(x, index) else None
        return x[index] if found is None else found

    def compress(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """By flat places, which takes NumPy a quarter of the time."""
        if x.size < kernels.MIN_SIZE or not x.flags.c_contiguous:
            return x[mask]
        return x.reshape(-1).take(np.flatnonzero(mask.reshape(-1)))

    def select(self, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
        return np.take(x, index, axis)  # in row-major order, unlike x[:, index]

    def topk(self, x: np.ndarray, k: int, axis: int, largest: bool) -> np.ndarray:
        axis %= x.ndim
        n = x.shape[axis]
        in_rows = largest and 0 < k <= min(n, FEW) and axis == x.ndim - 1
        if in_rows and kernels.supports_rows(x):
            return _topk_of_rows(x, k)
        if not 0 < k <= n // 8 or n < MIN_SIZE or x.dtype.kind == "b":
            return super().topk(x, k, axis, largest)
        rows = np.moveaxis(x, axis, -1)
        if x.dtype in HALF_PRECISION:  # the same order, and much faster in float32
            rows = rows.astype(np.float32)
        out = np.empty((*rows.shape[:-1], k), np.int64)
        for i in np.ndindex(rows.shape[:-1]):
            out[i] = best_of(rows[i], k, largest)
        return np.moveaxis(out, -1, axis)


def _sorts(x: np.ndarray) -> bool:
    """Whether a kernel sorts an array: a large one, with at most 32 bits a number."""
    return (
        type(x) is np.ndarray
        and x.size >= kernels.MIN_SIZE
        and x.ndim > 0
        and (x.dtype.char == "f" or x.dtype in HALF_PRECISION)
        and kernels.available()
    )


def _topk_of_rows(x: np.ndarray, k: int) -> np.ndarray:
    rows = kernels.contiguous(x).reshape(-1, x.shape[-1])
    places = np.empty((len(rows), k), np.int64)
    best = np.empty(places.shape, np.float64 if x.itemsize == 8 else np.float32)
    stored = kernels.load("half_precision").stored(rows)
    chunk = len(rows) if x.size <= ONE_THREAD else max(1, SOUGHT // x.shape[-1])
    family = kernels.load("selection")
    kernel = family.two_best if k == 2 and x.shape[-1] <= SHORT else family.topk
    threads.parallel_for(kernel, len(rows), chunk, stored, best, places)
    return places.reshape(*x.shape[:-1], k)


def takes_rows(table: np.ndarray, index: np.ndarray) -> bool:
    """Whether a kernel copies the rows of a table (N, W) at integer indices: if they are large."""
    return (
        table.ndim == 2
        and index.size * table.shape[1] >= LARGE
        and table.dtype in kernels.FLOATS
        and index.dtype == INT64
        and table.flags.carray
        and index.flags.carray
        and kernels.available()
    )


def rows_of(table: np.ndarray, index: np.ndarray) -> np.ndarray | None:
    """table[index]; None if an index is negative or too large."""
    rows, width = table.shape
    out = workspace.result((*index.shape, width), table.dtype)
    wrong = np.zeros(1, INT64)
    threads.parallel_for(
        *(kernels.load("embedding").take_rows, index.size, max(1, TAKEN // width)),
        *(table.ravel(), rows, width, index.ravel(), wrong, out.ravel()),
    )
    return None if wrong[0] else out


def best_of(row: np.ndarray, k: int, largest: bool) -> np.ndarray:
    """Indices of the k best, best first; of equal ones the earlier first. NaN is the largest."""
    if largest and row.dtype.kind == "f":
        # With many equal values (such as logits masked by -inf), NumPy's partition is 30 times
        # faster for an index near the start than near the end.
        if np.isnan(row.max()):
            return (row.size - 1 - np.argsort(row[::-1], kind="stable"))[::-1][:k]
        worst = -np.partition(-row, k - 1)[k - 1]  # of the k best
    else:
        at = row.size - k if largest else k - 1
        worst = np.partition(row, at)[at]
    better = np.flatnonzero(row > worst if largest else row < worst)
    equal = np.flatnonzero(row == worst)[: k - better.size]
    if better.size + equal.size < k:  # `worst` is NaN, for which both comparisons are False
        return np.argsort(row, kind="stable")[:k]
    values = row[better]
    if largest:
        better = better[::-1][np.argsort(values[::-1], kind="stable")][::-1]
    else:
        better = better[np.argsort(values, kind="stable")]
    return np.concatenate([better, equal])
