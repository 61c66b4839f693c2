"""Products of groups of rows by kernels that read the groups' row counts on the device.

The host knows only the numbers of rows and groups, and launches enough blocks for any division;
each block finds its rows by the counts. So the host never waits, and a captured step is valid for
any counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.grouped import GroupedDefaults
from gradient.backends.cuda.launching import LOAD, MAX_GRID, KernelLauncher
from gradient.backends.cuda.quantized import (
    BATCH,
    FAMILIES,
    ROWS,
    STEP,
    UNPACKED,
    WARPS,
    codebook,
    has_format,
)
from gradient.backends.packed import PackedArray

TILE, TILE_THREADS = 64, 128
"""Rows and columns of the result for a block (`tile_product.cuh`), and its threads."""


class Tiles(NamedTuple):
    """A kernel's suffix, the rows and columns of the result per block, its threads, and the bytes
    of shared memory."""

    name: str
    size: int
    threads: int
    shared: int


SMALL_TILES, WIDE_TILES = Tiles("", TILE, TILE_THREADS, 0), Tiles("_wide", 128, 128, 1 << 16)
"""`tile_product.cuh`'s and `wide_tiles.cuh`'s."""
TWO_BLOCKS = 2 * WIDE_TILES.shared
"""Bytes of shared memory with which a multiprocessor works on two wide tiles at once: an A100 or
H100 has them, an RTX 30 or 40 has not."""
ROWS_OF_WIDE = 128
"""For each group, from which on wide tiles are full enough."""
LISTED = 128
"""Groups of a launch, whose addresses are among its arguments (`grouped.cu`)."""
ADDRESSES = np.dtype([("at", np.int64, LISTED)])
RANGE = np.dtype([(name, np.int64) for name in ("from", "to", "groups", "rows")])
FEW_ROWS, FEW_PER_GROUP = 16, 2
"""Up to so many rows, or so many for each group, the matrices are read rather than multiplied."""


class GroupedKernels(KernelLauncher, GroupedDefaults[Array]):
    """Overrides of `composed.grouped`."""

    aligned: Any
    readable: Any

    def grouped_linear(
        self, x: Array, weights: Sequence[Array | PackedArray], counts: Array
    ) -> Array:
        if not self._has_groups(x, weights, counts, 1):
            return super().grouped_linear(x, weights, counts)
        n = weights[0].shape[0]
        out = self.empty((x.shape[0], n), x.dtype)
        x = self.contiguous(x)
        if x.shape[0] <= max(FEW_ROWS, FEW_PER_GROUP * len(weights)):
            self._grouped_few_rows(x, weights, counts, out)
        else:
            self._grouped_tiles("grouped_rows", x, weights, counts, out)
        return out

    def grouped_linear_input_grad(
        self, g: Array, weights: Sequence[Array | PackedArray], counts: Array
    ) -> Array:
        if not self._has_groups(g, weights, counts, 0):
            return super().grouped_linear_input_grad(g, weights, counts)
        gx = self.empty((g.shape[0], weights[0].shape[1]), g.dtype)
        self._grouped_tiles("grouped_input_grad", self.contiguous(g), weights, counts, gx)
        return gx

    def grouped_linear_weight_grad(self, g: Array, x: Array, counts: Array) -> list[Array]:
        if not (self.has_kernel(g, x) and x.size and _are_rows(g, counts) and _are_rows(x, counts)):
            return super().grouped_linear_weight_grad(g, x, counts)
        if g.shape[0] != x.shape[0]:
            return super().grouped_linear_weight_grad(g, x, counts)
        g, x, counts = map(self.contiguous, (g, x, counts))
        sizes = g.shape[1], x.shape[1]
        grads = [self.empty(sizes, g.dtype) for _ in range(counts.size)]
        tiles = self._tiles_for(g, sizes, counts, g, x, *grads)
        for some in _ranges(counts.size, LISTED):
            self.launch(
                "grouped", f"grouped_weight_grad{tiles.name}", g,
                (-(-sizes[1] // tiles.size), -(-sizes[0] // tiles.size), some.stop - some.start),
                tiles.threads,
                g, x, counts, _range(some, counts, g), self._addresses(grads[some]),
                *map(np.int64, sizes), self.index_fault(), shared=tiles.shared,
            )  # fmt: skip
        return grads

    def _grouped_few_rows(
        self, x: Array, weights: Sequence[Any], counts: Array, out: Array
    ) -> None:
        first, rows, counts = weights[0], x.shape[0], self.contiguous(counts)
        (n, k), size = first.shape, 1
        parts = [[self.contiguous(weight)] for weight in weights if not _is_packed(weight)]
        name = "few_rows"
        if not parts:
            parts = [
                [self.aligned(part) for part in self.readable(weight).parts] for weight in weights
            ]
            name, size = FAMILIES[first.dtype.name], first.dtype.block_size
        for some in _ranges(len(weights), LISTED):
            columns = list(zip(*parts[some], strict=True))
            lists = [self._addresses(each) for each in (*columns, *[()] * (3 - len(columns)))]
            self.launch(
                "grouped", f"grouped_{name}", x,
                (-(-n // ROWS[1]), _tiles(rows, BATCH[1], some)), 32 * min(WARPS, -(-k // STEP)),
                x, *lists, codebook(name), np.int64(size), counts, _range(some, counts, x), out,
                *map(np.int64, (n, k)), self.index_fault(),
            )  # fmt: skip

    def _grouped_tiles(
        self, kernel: str, x: Array, weights: Sequence[Any], counts: Array, out: Array
    ) -> None:
        """Multiply by tiles. Packed weights are unpacked first, as many at a time as fit."""
        sizes, counts, packed = weights[0].shape, self.contiguous(counts), _is_packed(weights[0])
        at_once = min(LISTED, max(1, UNPACKED // weights[0].size)) if packed else LISTED
        for some in _ranges(len(weights), at_once):
            matrices = [
                self.unpack(weight, x.dtype) if packed else self.contiguous(weight)
                for weight in weights[some]
            ]
            tiles = self._tiles_for(x, sizes, counts, x, out, *matrices)
            self.launch(
                "grouped", f"{kernel}{tiles.name}", x,
                (-(-out.shape[1] // tiles.size), _tiles(x.shape[0], tiles.size, some)),
                tiles.threads,
                x, self._addresses(matrices), counts, _range(some, counts, x), out,
                *map(np.int64, sizes), self.index_fault(), shared=tiles.shared,
            )  # fmt: skip

    def _tiles_for(self, x: Array, sizes: Sequence[int], counts: Array, *arrays: Array) -> Tiles:
        """Wide tiles for 16-bit floats aligned to 16 bytes, if groups have enough rows."""
        wide = (
            x.itemsize == 2
            and self.runtime.has_tensor_cores
            and self.runtime.max_shared >= TWO_BLOCKS
            and x.shape[0] >= ROWS_OF_WIDE * counts.size
            and not any(n % 8 for n in sizes)
            and not any(self.runtime.address(a) % LOAD for a in arrays)
        )
        return WIDE_TILES if wide else SMALL_TILES

    def _addresses(self, arrays: Sequence[Array]) -> np.ndarray:
        """The addresses of arrays, as a struct argument by value, which a graph stores."""
        addresses = np.zeros(1, ADDRESSES)
        addresses["at"][0, : len(arrays)] = [self.runtime.address(x) for x in arrays]
        return addresses

    def _has_groups(
        self, x: Array, weights: Sequence[Array | PackedArray], counts: Array, axis: int
    ) -> bool:
        """Whether the kernels can multiply x with this axis of the weights."""
        first = weights[0]
        return (
            self.has_kernel(x)
            and _are_rows(x, counts)
            and _tiles(x.shape[0], TILE, slice(0, LISTED)) <= MAX_GRID
            and counts.size == len(weights)
            and len(first.shape) == 2
            and first.size > 0
            and x.shape[1] == first.shape[axis]
            and all(w.dtype == first.dtype and w.shape == first.shape for w in weights)
            and (has_format(first) if isinstance(first, PackedArray) else first.dtype == x.dtype)
        )


def _is_packed(weight: Array | PackedArray) -> bool:
    return isinstance(weight, PackedArray)


def _are_rows(x: Array, counts: Array) -> bool:
    return x.ndim == 2 and counts.ndim == 1 and counts.dtype == np.int64 and counts.size > 0


def _ranges(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _range(some: slice, counts: Array, x: Array) -> np.ndarray:
    return np.array([(some.start, some.stop, counts.size, x.shape[0])], RANGE)


def _tiles(rows: int, size: int, some: slice) -> int:
    """The largest number of tiles of so many rows that the groups can have, for any division."""
    return rows // size + min(rows, some.stop - some.start)
