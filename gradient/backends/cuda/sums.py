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
        wide = np.dtype(computed_in(x))
        total, found = self.contiguous(x), x.dtype
        for i, run in enumerate(runs):
            result = x.dtype if i == len(runs) - 1 else wide
            total, found = self._sum(x, total, run, found, result), result
        return total.reshape(shape)

    def _sum(self, like: Array, x: Array, run: Run, found: np.dtype, result: np.dtype) -> Array:
        """The sum over the middle axis, in two launches where it is divided into parts."""
        wide = np.dtype(computed_in(like))
        parts, of_part = _parts(run, found.itemsize)
        if parts == 1:
            return self._launch_sum(like, x, run, found, result, 1, run.reduced)
        some = self._launch_sum(like, x, run, found, wide, parts, of_part)
        return self._sum(like, some, Run(run.outer, parts, run.inner), wide, result)

    def _launch_sum(
        self, like: Array, x: Array, run: Run, found: np.dtype, result: np.dtype, parts: int,
        of_part: int,
    ) -> Array:  # fmt: skip
        outer, reduced, inner = run
        out = self.empty((outer * parts * inner,), result)
        narrow = like.dtype
        kernel = {
            (True, True): "sum", (True, False): "parts", (False, True): "join",
            (False, False): "parts_of_parts",
        }[found == narrow, result == narrow]  # fmt: skip
        if inner > 1:
            tiles = -(-inner // (32 * (LOAD // found.itemsize)))
            self.launch(
                "sums", f"columns_{kernel}", like, (tiles, parts, min(outer, MAX_GRID)),
                32 * WARPS, x, out, *map(np.int64, (outer, reduced, inner, of_part)),
            )  # fmt: skip
        elif reduced <= SHORT_ROW:
            grid = (-(-outer // WARPS),)
            sizes = map(np.int64, (outer, reduced))
            self.launch("sums", f"short_rows_{kernel}", like, grid, 32 * WARPS, x, out, *sizes)
        else:
            sizes = map(np.int64, (reduced, of_part))
            threads = block_of(of_part)
            self.launch("sums", f"rows_{kernel}", like, (outer, parts), threads, x, out, *sizes)
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
        tiles = -(-inner // (32 * (LOAD // itemsize))) * outer
        least, most = LEAST_ROWS, MOST_ROWS
    else:
        tiles, least, most = outer, LEAST_PART, MOST_OF_PART
    parts = max(min(FILLING // tiles, reduced // least), -(-reduced // most), 1)
    parts = min(parts, MAX_GRID)
    of_part = -(-reduced // parts)
    if inner == 1:
        of_part = -(-of_part // LOAD) * LOAD  # so that parts begin at 16 bytes
    return -(-reduced // of_part), of_part
