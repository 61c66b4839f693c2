"""Sums over any axes by kernels (`sums.cu`), one run of neighbouring axes after the other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gradient.backends.array_api import Array, ArrayAPIBackend
from gradient.backends.cuda.launching import LOAD, MAX_GRID, KernelLauncher, block_of, computed_in
from gradient.backends.required import Axis

FILLING = 512
"""Blocks that keep a GPU busy: what is added up is divided into parts up to so many."""
SHORT_ROW = 1024
"""Numbers of a row up to which a warp adds it up, rather than a block."""
LEAST_PART, MOST_OF_PART = 4096, 65536
"""Numbers of a row's part, and at most: a thread adds up 256 of these, one after the other."""
LEAST_ROWS, MOST_ROWS = 64, 4096
"""The same of the rows that are added up for each column."""
WARPS = 8


class Run(NamedTuple):
    """Neighbouring axes that are added up: the sizes before, of, and after them."""

    outer: int
    reduced: int
    inner: int


class SumKernels(KernelLauncher, ArrayAPIBackend):
    """Overrides a required method."""

    def sum(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = _axes(x.ndim, axis)
        runs = _runs(x.shape, axes) if axes and self.has_kernel(x) else []
        if not runs or any(map(_has_small_tiles, runs)):
            return super().sum(x, axis, keepdims)
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        total = self.contiguous(x)
        for run in runs[:-1]:
            total = self._sum(total, run, np.dtype(computed_in(x)))
        return self._sum(total, runs[-1], x.dtype).reshape(shape)

    def _sum(self, x: Array, run: Run, dtype: np.dtype) -> Array:
        """The sum over the middle axis, in two launches where it is divided into parts."""
        parts, of_part = _parts(run, x.itemsize)
        if parts == 1:
            return self._launch_sum(x, run, dtype, 1, run.reduced)
        some = self._launch_sum(x, run, np.dtype(computed_in(x)), parts, of_part)
        return self._sum(some, Run(run.outer, parts, run.inner), dtype)

    def _launch_sum(self, x: Array, run: Run, dtype: np.dtype, parts: int, of_part: int) -> Array:
        """The sums of parts, in x's dtype, from it, or to it."""
        outer, reduced, inner = run
        out = self.empty((outer * parts * inner,), dtype)
        kind = "sum" if dtype == x.dtype else "parts" if x.itemsize == 2 else "join"
        like = out if kind == "join" else x
        if inner > 1:
            self.launch(
                "sums", f"columns_{kind}", like,
                (_tiles(inner, x.itemsize), parts, min(outer, MAX_GRID)), 32 * WARPS,
                x, out, *map(np.int64, (outer, reduced, inner, of_part)),
            )  # fmt: skip
        elif reduced <= SHORT_ROW:
            sizes = map(np.int64, (outer, reduced))
            blocks = (-(-outer // WARPS),)
            self.launch("sums", f"short_rows_{kind}", like, blocks, 32 * WARPS, x, out, *sizes)
        else:
            sizes = map(np.int64, (reduced, of_part))
            grid, threads = (outer, parts), block_of(of_part)
            self.launch("sums", f"rows_{kind}", like, grid, threads, x, out, *sizes)
        return out


def _axes(ndim: int, axis: Axis) -> set[int]:
    """From 0 on; none where there are none, or where one is no axis."""
    given = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return {i % ndim for i in given} if all(-ndim <= i < ndim for i in given) else set()


def _has_small_tiles(run: Run) -> bool:
    """Whether blocks would find little to add up, and be many."""
    return run.inner > 1 and run.inner * run.reduced < SHORT_ROW and run.outer > FILLING


def _runs(shape: tuple[int, ...], axes: set[int]) -> list[Run]:
    """What is added up, the last axes first: then each run sees what the runs after it left."""
    runs: list[Run] = []
    inner, i = 1, len(shape) - 1
    while i >= 0:
        reduced = 1
        while i >= 0 and (i in axes or shape[i] == 1):
            reduced *= shape[i]
            i -= 1
        if reduced > 1:
            runs.append(Run(math.prod(shape[: i + 1]), reduced, inner))
        while i >= 0 and i not in axes:
            inner *= shape[i]
            i -= 1
    return runs


def _parts(run: Run, itemsize: int) -> tuple[int, int]:
    """Into how many parts the middle is divided, and how many of its numbers each has."""
    outer, reduced, inner = run
    if inner > 1:
        tiles = _tiles(inner, itemsize) * outer
        least, most = LEAST_ROWS, MOST_ROWS
    else:
        tiles, least, most = outer, LEAST_PART, MOST_OF_PART
        if reduced <= SHORT_ROW:
            return 1, reduced
    parts = max(min(FILLING // tiles, reduced // least), -(-reduced // most), 1)
    parts = min(parts, SHORT_ROW)  # so that a warp adds them up
    of_part = -(-reduced // parts)
    if inner == 1:
        of_part = -(-of_part // LOAD) * LOAD  # so that parts begin at 16 bytes
    return -(-reduced // of_part), of_part


def _tiles(inner: int, itemsize: int) -> int:
    """Of the columns that a warp loads at a time."""
    return -(-inner // (32 * (LOAD // itemsize)))
