"""Running products, sums and extremes, and places in sorted rows, by kernels."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from gradient.backends.array_api import FLOAT32, ArrayAPIBackend
from gradient.backends.numpy import kernels, threads, workspace

CHUNK = 1 << 13
"""Elements of whole rows that a thread takes at a time."""

SOUGHT = 1 << 12
"""Values whose places a thread seeks at a time."""

FEW = 1 << 12
"""Comparisons of values with elements of rows that take less time than bisection."""

ORDERED = (*kernels.FLOATS, kernels.INT64)
"""The dtypes that kernels compare."""


class ScanKernels(ArrayAPIBackend):
    """Overrides for `NumpyBackend`, for large arrays."""

    def cumprod(self, x: np.ndarray, axis: int) -> np.ndarray:
        x = kernels.contiguous(x) if x.size >= kernels.MIN_SIZE else x
        if x.ndim == 0 or not kernels.supports(x):
            if x.dtype == FLOAT32:  # as kernels and PyTorch: 1e30 * 1e30 * 1e-30 is 1e30
                return np.cumprod(x, axis, np.float64).astype(FLOAT32)
            return super().cumprod(x, axis)
        out = np.empty(x.shape, x.dtype)
        outer, n, inner = _sizes(x, axis)
        family = kernels.load("scans")
        if inner == 1:
            work = -(-outer // 4), max(1, CHUNK // (4 * n))
        else:
            work = outer * -(-inner // family.COLUMNS), 1
        threads.parallel_for(family.running_products, *work, x.ravel(), n, inner, out.ravel())
        return out

    def recurrent_sum(self, g: np.ndarray, factors: np.ndarray, axis: int) -> np.ndarray:
        if not _scans(g, axis) or factors.dtype != g.dtype:
            return super().recurrent_sum(g, factors, axis)
        out = workspace.result(g.shape, g.dtype)
        outer, n, inner = _sizes(g, axis)
        given = (workspace.contiguous(x).reshape(-1) for x in (g, factors))
        threads.parallel_for(
            *(kernels.load("recurrences").recurrent_sums, *_work(outer, n, inner, 4)),
            *(*given, n, inner, out.reshape(-1)),
        )
        return out

    def logcumsumexp(self, x: np.ndarray, axis: int) -> np.ndarray:
        if not _scans(x, axis):
            return super().logcumsumexp(x, axis)
        out = workspace.result(x.shape, x.dtype)
        outer, n, inner = _sizes(x, axis)
        family = kernels.load("recurrences")
        threads.parallel_for(
            *(family.running_log_sums, *_work(outer, n, inner, family.ROWS)),
            *(workspace.contiguous(x).reshape(-1), n, inner, out.reshape(-1)),
        )
        return out

    def running_extreme(self, x: np.ndarray, axis: int, largest: bool) -> np.ndarray:
        if x.size < kernels.MIN_SIZE or x.dtype not in ORDERED or not kernels.available():
            return super().running_extreme(x, axis, largest)
        x = kernels.contiguous(x)
        places = np.empty(x.shape, np.int64)
        outer, n, inner = _sizes(x, axis)
        family = kernels.load("scans")
        if inner == 1:
            work = outer, max(1, CHUNK // n)
        else:
            work = outer * -(-inner // family.COLUMNS), 1
        threads.parallel_for(
            family.running_extremes, *work, x.ravel(), n, inner, largest, places.ravel()
        )
        return places

    def searchsorted(self, rows: np.ndarray, values: np.ndarray, right: bool) -> np.ndarray:
        if not (
            type(values) is np.ndarray
            and values.size >= kernels.MIN_SIZE
            and values.dtype == rows.dtype
            and rows.dtype in ORDERED
            and 0 < rows.size < 1 << 31
            and kernels.available()
        ):
            if _are_few(rows, values):
                side: Literal["left", "right"] = "right" if right else "left"
                if rows.ndim == 1:
                    return np.asarray(rows.searchsorted(values, side))
                row, sought = rows[..., None, :], values[..., None]
                behind = row > sought if right else row >= sought
                return np.asarray(rows.shape[-1] - np.count_nonzero(behind, -1))
            return super().searchsorted(rows, values, right)
        n = rows.shape[-1]
        m = values.size if rows.ndim == 1 else values.shape[-1]
        out = np.empty(values.shape, np.int64)
        threads.parallel_for(
            *(kernels.load("searching").insertion_places, values.size, SOUGHT),
            *(kernels.contiguous(rows).reshape(-1), n, kernels.contiguous(values).reshape(-1), m),
            *(right, out.reshape(-1)),
        )
        return out


def _scans(x: np.ndarray, axis: int) -> bool:
    """Whether kernels compute sums along an axis of x: a large array with more than one number."""
    return (
        type(x) is np.ndarray
        and x.size >= kernels.MIN_SIZE
        and x.shape[axis] > 1
        and x.dtype in kernels.FLOATS
        and kernels.available()
    )


def _work(outer: int, n: int, inner: int, rows: int) -> tuple[int, int]:
    """How many items a kernel takes, and how many a thread takes at a time: of so many rows each,
    where they follow each other; else of COLUMNS columns."""
    if inner == 1:
        return -(-outer // rows), max(1, CHUNK // (rows * n))
    columns: int = kernels.load("scans").COLUMNS
    return outer * -(-inner // columns), max(1, CHUNK // (min(inner, columns) * n))


def _are_few(rows: np.ndarray, values: np.ndarray) -> bool:
    """Whether to seek by NumPy: in one row of numbers, or a few numbers in rows, by comparing all.
    (Before a NaN at the end of a row, bisection finds another place.)"""
    return (
        rows.dtype == values.dtype
        and rows.dtype in ORDERED
        and rows.size > 0
        and (rows.ndim == 1 or values.size * rows.shape[-1] <= FEW)
        and bool((rows[..., -1] == rows[..., -1]).all())
    )


def _sizes(x: np.ndarray, axis: int) -> tuple[int, int, int]:
    """The sizes before, of and after an axis."""
    axis %= x.ndim
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
