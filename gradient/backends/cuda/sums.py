"""Sums and extremes over any axes by kernels (`sums.cu`), one run of neighbours after the other."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from gradient.backends.array_api import Array, ArrayAPIBackend
from gradient.backends.cuda.extremes import shape_of_nothing
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
FEW_BYTES, MOST_PARTS = 1 << 17, 256
"""Of columns that a block adds up sooner than one more launch; parts, which become such columns."""
WARPS = 8


class Run(NamedTuple):
    """Neighbouring axes that are added up: the sizes before, of, and after them."""

    outer: int
    reduced: int
    inner: int


class SumKernels(KernelLauncher, ArrayAPIBackend):
    """Overrides of required methods."""

    def sum(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        total = self._over_runs("sum", np.dtype(computed_in(x)), x, axis, keepdims)
        return super().sum(x, axis, keepdims) if total is None else total

    def max(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return self._extreme("max", x, axis, keepdims)

    def min(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return self._extreme("min", x, axis, keepdims)

    def _extreme(self, name: str, x: Array, axis: Axis, keepdims: bool) -> Array:
        found = self._over_runs(name, x.dtype, x, axis, keepdims)
        if found is not None:
            return found
        if (shape := shape_of_nothing(x, axis, keepdims)) is not None:
            return self.empty(shape, x.dtype)
        function = getattr(self.xp, name)  # which gives float32 of bfloat16
        return function(x, axis, keepdims=keepdims).astype(x.dtype, copy=False)

    def _over_runs(
        self, name: str, between: np.dtype, x: Array, axis: Axis, keepdims: bool
    ) -> Array | None:
        """The sum, largest or smallest numbers, one run of axes after the other, in a dtype
        `between` these; None if kernels do not take it."""
        if not self.has_kernel(x):
            return None
        runs, shape = _plan(x.shape, tuple(axis) if isinstance(axis, list) else axis, keepdims)
        if not runs:
            return None
        total = self.contiguous(x)
        for i, run in enumerate(runs):
            dtype = x.dtype if i == len(runs) - 1 else between
            total = self._over_run(name, total, run, dtype, between)
        return total if total.shape == shape else total.reshape(shape)

    def _over_run(
        self, name: str, x: Array, run: Run, dtype: np.dtype, between: np.dtype
    ) -> Array:  # fmt: skip
        """That over the middle axis, in two launches where it is divided into parts."""
        parts, of_part = _parts(run, x.itemsize)
        if parts == 1:
            return self._launch_run(name, x, run, dtype, 1, of_part)
        some = self._launch_run(name, x, run, between, parts, of_part)
        return self._over_run(name, some, Run(run.outer, parts, run.inner), dtype, between)

    def sums_of_parts(self, parts: Array, dtype: np.dtype) -> list[Array]:
        """What gradients for weights were added up to, (count, parts, columns), summed over the
        parts: rounded once to a dtype, each an array of its own, which a leaf keeps uncopied."""
        (count, reduced, inner), number = parts.shape, parts.dtype
        run = Run(count, reduced, inner)
        several, of_part = _parts(run, parts.itemsize)
        if several > 1:
            some = self._launch_run("sum", parts, run, number, several, of_part)
            parts = some.reshape((count, several, inner))
        one = Run(1, parts.shape[1], inner)
        return [self._over_run("sum", parts[i], one, dtype, number) for i in range(count)]

    def _launch_run(
        self, name: str, x: Array, run: Run, dtype: np.dtype, parts: int, of_part: int
    ) -> Array:
        """Of each part, in x's dtype; sums also from it, or to it."""
        out = self.empty((run.outer * parts * run.inner,), dtype)
        kind = name if dtype == x.dtype else "parts" if x.itemsize == 2 else "join"
        like = out if kind == "join" else x
        aligned = self.runtime.address(x) % LOAD == 0
        kernel, grid, block, sizes = _launch(run, parts, of_part, x.itemsize, aligned)
        self.launch("sums", f"{kernel}_{kind}", like, grid, block, x, out, *sizes)
        return out


@functools.lru_cache(4096)
def _launch(
    run: Run, parts: int, of_part: int, itemsize: int, aligned: bool
) -> tuple[str, tuple[int, ...], int, tuple[int, ...]]:
    """The kernel for a run, its grid and block, and its arguments after the two arrays."""
    outer, reduced, inner = run
    if _has_small_tiles(run):
        each = LOAD // itemsize
        packed = aligned and inner % each == 0
        threads = outer * (inner // each if packed else inner)
        return "small_tiles", (-(-threads // 256),), 256, (outer, reduced, inner, int(packed))
    if inner > 1:
        width = inner * _folded(inner, itemsize)
        grid = _tiles(width, itemsize), parts, min(outer, MAX_GRID)
        return "columns", grid, 32 * WARPS, (outer, reduced * inner, width, inner, of_part)
    if reduced <= SHORT_ROW:
        return "short_rows", (-(-outer // WARPS),), 32 * WARPS, (outer, reduced)
    return "rows", (outer, parts), block_of(of_part), (reduced, of_part)


@functools.lru_cache(4096)
def _plan(shape: tuple[int, ...], axis: Axis, keepdims: bool) -> tuple[list[Run], tuple[int, ...]]:
    """The runs of axes one after the other, none where kernels do not take them; and the shape of
    what they leave."""
    axes = _axes(len(shape), axis)
    runs = _runs(shape, axes) if axes else []
    kept = [1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes]
    return runs, tuple(kept)


def _axes(ndim: int, axis: Axis) -> set[int]:
    """From 0 on; none where there are none, or where one is no axis."""
    given = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return {i % ndim for i in given} if all(-ndim <= i < ndim for i in given) else set()


def _has_small_tiles(run: Run) -> bool:
    """Whether blocks would find little to add up, and be many: threads work alone then."""
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


@functools.lru_cache(4096)
def _parts(run: Run, itemsize: int) -> tuple[int, int]:
    """Into how many parts the middle is divided, and how many of its numbers, or of folded rows,
    each has."""
    outer, reduced, inner = run
    if inner > 1:
        if _has_small_tiles(run):
            return 1, reduced
        rows = _folded(inner, itemsize)
        reduced, inner = -(-reduced // rows), inner * rows
        if reduced * min(inner * itemsize, 32 * LOAD) <= FEW_BYTES and reduced <= MOST_ROWS:
            return 1, reduced
        tiles = _tiles(inner, itemsize) * outer
        least, most = LEAST_ROWS, MOST_ROWS
    else:
        tiles, least, most = outer, LEAST_PART, MOST_OF_PART
        if reduced <= SHORT_ROW:
            return 1, reduced
    parts = max(min(FILLING // tiles, reduced // least, MOST_PARTS), -(-reduced // most), 1)
    parts = min(parts, SHORT_ROW)  # so that a warp adds them up
    of_part = -(-reduced // parts)
    if inner == 1:
        of_part = -(-of_part // LOAD) * LOAD  # so that parts begin at 16 bytes
    return -(-reduced // of_part), of_part


def _folded(inner: int, itemsize: int) -> int:
    """Rows of few columns that are read as one, which begins at 16 bytes and is no wider than what
    a warp loads at a time."""
    each = LOAD // itemsize
    least = math.lcm(inner, each)
    return max(1, 32 * each // least * least // inner)


def _tiles(inner: int, itemsize: int) -> int:
    """Of the columns that a warp loads at a time."""
    return -(-inner // (32 * (LOAD // itemsize)))
