"""Sorting, the k best and running sums: by kernels, without a wait, and fit for CUDA graphs.

CuPy sorts by Thrust, which takes memory of its own and ends with a synchronise, so that neither a
graph nor a step without waits may have it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.cuda.launching import FLOATS, KernelLauncher

BLOCK, TILE, DIGITS = 256, 2048, 256
"""Threads of a block for a tile of a pass, a tile's elements, and digits (`sorting.cu`)."""
ROW_BLOCK = 512
"""Threads of a block for a row, at most."""
IN_ONE_BLOCK, TOP = 4096, 1024
"""Columns that are sorted in shared memory, and the k best that are."""
PART = 8192
"""Columns, at least, of a part of a row for a block that seeks the k best."""
ONE_BLOCK_SUMS = 1 << 18
"""Columns up to which one block takes the running sums of a row."""
KINDS = {"f": 0, "V": 0, "i": 1, "u": 2}
BY_SIZE = {2: "float16", 4: "float32", 8: "float64"}
"""The kernels for integers of so many bytes."""


class SortingKernels(KernelLauncher, ShapeDefaults[Array]):
    """Overrides of `composed.shape`, and the required methods `argsort` and `cumsum`."""

    take_along: Any

    def argsort(self, x: Array, axis: int) -> Array:
        if not _has_sorting_kernel(x):
            return super().argsort(x, axis)
        return self._along_rows(x, axis, lambda rows: self._sorted(rows, rows.shape[-1], False))

    def topk(self, x: Array, k: int, axis: int, largest: bool) -> Array:
        if not _has_sorting_kernel(x) or k == 0:
            return super().topk(x, k, axis, largest)
        return self._along_rows(x, axis, lambda rows: self._best(rows, k, largest))

    def cumsum(self, x: Array, axis: int) -> Array:
        """Of rows; along another axis, or a row that is long enough for many blocks, by CuPy."""
        in_rows = axis in (-1, x.ndim - 1) and self.has_kernel(x) and x.shape[-1] <= ONE_BLOCK_SUMS
        if not in_rows:
            return super().cumsum(x, axis)
        x = self.contiguous(x)
        out = self.empty(x.shape, x.dtype)
        self.launch_rows("scans", "cumsum", x, x, out)
        return out

    def _order_of_rows(self, rows: Array, count: int) -> Array:
        """The order of a line of numbers below `count`, which keeps equal ones together, in order:
        by no more digits than these need. (Where others stand says nothing of them.)"""
        digits = max(1, -(-(count - 1).bit_length() // 8))
        return self._sorted(rows, rows.size, False, digits)

    def _along_rows(self, x: Array, axis: int, places_in: Any) -> Array:
        """The places that a function gives for rows, back along `axis`."""
        axis %= x.ndim
        before, after = range(axis), range(axis + 1, x.ndim)
        rows = x.transpose((*before, *after, axis))
        if x.itemsize == 1:
            rows = self.astype(rows, np.dtype(np.int16))
        places = places_in(self.contiguous(rows))
        return places.transpose((*before, x.ndim - 1, *range(axis, x.ndim - 1)))

    def _best(self, rows: Array, k: int, largest: bool) -> Array:
        """int64 (..., k): the k best of each row, best first."""
        if rows.shape[-1] <= IN_ONE_BLOCK or k > TOP:
            return self._sorted(rows, k, largest)
        columns, width = rows.shape[-1], _power(k)
        of_part = _columns_of_part(columns, k)
        parts = -(-columns // of_part)
        places = self.empty((*rows.shape[:-1], parts * k), np.dtype(np.int64))
        self._launch_sorting(
            "top_rows", rows, places.size // k, ROW_BLOCK,
            rows, places, columns, of_part, k, width, largest=largest,
            shared=_bytes_of_items(rows, width),
        )  # fmt: skip
        if parts == 1:
            return places
        # Equal ones of an earlier part come first, as they do in the row.
        best = self._sorted(self.contiguous(self.take_along(rows, places, -1)), k, largest)
        return self.take_along(places, best, -1)

    def _sorted(self, rows: Array, taken: int, largest: bool, digits: int | None = None) -> Array:
        """int64 (..., taken): the order of each row, up to so many; by its lowest `digits` of 8
        bits if they are told."""
        columns = rows.shape[-1]
        if columns > IN_ONE_BLOCK:
            return self._by_digits(rows, largest, digits or rows.itemsize)[..., :taken]
        places = self.empty((*rows.shape[:-1], taken), np.dtype(np.int64))
        width = _power(columns)
        self._launch_sorting(
            "sort_rows", rows, rows.size // columns, min(ROW_BLOCK, max(32, width // 2)),
            rows, places, columns, taken, width, largest=largest,
            shared=_bytes_of_items(rows, width),
        )  # fmt: skip
        return places

    def _by_digits(self, rows: Array, largest: bool, digits: int) -> Array:
        """The order of rows of any length, digit by digit from the lowest."""
        columns, count = rows.shape[-1], rows.size // rows.shape[-1]
        tiles = -(-columns // TILE)
        order = self.empty(rows.shape, np.dtype(np.int64))
        offsets = self.empty((count, DIGITS, tiles), np.dtype(np.uint32))
        word = np.dtype(f"u{rows.itemsize}")
        buffers = [
            (self.empty(rows.shape, word), self.empty(rows.shape, np.dtype(np.uint32)))
            for _ in range(min(2, digits - 1))
        ]
        keys, places = None, None
        for digit in range(digits):
            is_last = digit == digits - 1
            to = (None, None) if is_last else buffers[digit % 2]
            size = (columns, tiles, 8 * digit)
            self._launch_sorting(
                "radix_count", rows, count * tiles, BLOCK, rows, keys, offsets, *size,
                largest=largest,
            )  # fmt: skip
            self.runtime.launch(
                "sorting", "radix_offsets", _kernels_of(rows), (count,), ROW_BLOCK,
                offsets, DIGITS * tiles,
            )  # fmt: skip
            self._launch_sorting(
                "radix_move", rows, count * tiles, BLOCK, rows, keys, places, offsets, *to,
                order if is_last else None, *size, largest=largest,
            )  # fmt: skip
            keys, places = to
        return order

    def _launch_sorting(
        self, kernel: str, rows: Array, blocks: int, block: int, *arguments: Any, largest: bool,
        shared: int = 0,
    ) -> None:  # fmt: skip
        self.runtime.launch(
            "sorting", kernel, _kernels_of(rows), (blocks,), block,
            *arguments, KINDS[rows.dtype.kind], int(largest), shared=shared,
        )  # fmt: skip


def _has_sorting_kernel(x: Array) -> bool:
    """Whether kernels sort these: real numbers, fewer in a row than 32 bits count."""
    known = x.dtype in FLOATS or x.dtype.kind in "iub"
    return bool(known and x.ndim and x.size > 0 and max(x.shape) < 1 << 31)


def _columns_of_part(columns: int, k: int) -> int:
    """Of parts that all have k columns or more, whose best together are sorted in one block."""
    parts = max(1, min(columns // max(PART, k), IN_ONE_BLOCK // k))
    while parts > 1 and columns - (parts - 1) * -(-columns // parts) < k:
        parts -= 1
    return -(-columns // parts)


def _kernels_of(rows: Array) -> str:
    return FLOATS.get(rows.dtype) or BY_SIZE[rows.itemsize]


def _power(n: int) -> int:
    """The smallest power of two that is at least n, and 2."""
    return 1 << max(1, (n - 1).bit_length())


def _bytes_of_items(rows: Array, width: int) -> int:
    """Shared memory for as many keys with their places."""
    return width * (16 if rows.itemsize == 8 else 8)
