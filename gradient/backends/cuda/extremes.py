"""argmax and argmin: the first of equal numbers, or the first NaN.

Of several NaN, CuPy's functions return an arbitrary one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.cuda.launching import KernelLauncher, block_of
from gradient.backends.required import Axis, Shape

PART, MANY_BLOCKS = 16384, 512
"""Columns of a part of a row, at least; and blocks with which a GPU is busy without parts."""
NARROW = 32
"""Neighbours along the inner axis below which lines are first made rows."""
COLUMNS_BLOCK = 256
"""Threads of a block of `argmax_columns`."""
UNDER_WAY = 64
"""Bytes of a row that a thread loads before it looks at them, where there are many rows."""


class ExtremeKernels(KernelLauncher, ShapeDefaults[Array]):
    """Overrides of `composed.shape`'s argmin and likeliest, and of the required method `argmax`."""

    def argmax(self, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        if not self.has_kernel(x):
            return self._otherwise(super().argmax, x, axis, keepdims)
        return self._first_along(x, axis, keepdims, smallest=False)

    def argmin(self, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        if not self.has_kernel(x):
            return self._otherwise(super().argmin, x, axis, keepdims)
        return self._first_along(x, axis, keepdims, smallest=True)

    def likeliest(self, x: Array) -> Array:
        if not x.ndim or not self.has_kernel(x):
            return super().likeliest(x)
        rows = x.reshape((-1, x.shape[-1]))
        return self._first_in_rows(rows, smallest=False, or_none=True).reshape(x.shape[:-1])

    def _otherwise(self, function: Any, x: Array, axis: int | None, keepdims: bool) -> Array:
        shape = shape_of_nothing(x, axis, keepdims)
        return function(x, axis, keepdims) if shape is None else self._empty_places(shape)

    def _first_along(self, x: Array, axis: int | None, keepdims: bool, smallest: bool) -> Array:
        if axis is None or not x.shape:
            shape: tuple[int, ...] = (1,) * x.ndim if keepdims else ()
            return self._first_in_rows(x.reshape((1, -1)), smallest).reshape(shape)
        axis %= x.ndim or 1
        before, lines, after = x.shape[:axis], x.shape[axis : axis + 1], x.shape[axis + 1 :]
        inner = math.prod(after)
        shape = (*before, *(1 for _ in lines if keepdims), *after)
        if inner < NARROW:
            rows = x.transpose((*range(axis), *range(axis + 1, x.ndim), *range(axis, axis + 1)))
            return self._first_in_rows(rows.reshape((-1, *lines)), smallest).reshape(shape)
        x, (count,) = self.contiguous(x), lines
        out = self._empty_places(shape)
        blocks = math.prod(before) * -(-inner // NARROW)
        numbers = count, inner, int(smallest)
        self.launch("argmax", "argmax_columns", x, (blocks,), COLUMNS_BLOCK, x, out, *numbers)
        return out

    def _first_in_rows(self, rows: Array, smallest: bool, or_none: bool = False) -> Array:
        """int64 (N,) for rows (N, C); few long rows use several blocks each. With `or_none`, -1
        where the largest is -inf or NaN."""
        rows = self.contiguous(rows)
        count, columns = rows.shape
        parts = max(1, min(MANY_BLOCKS // count, columns // PART))
        of_part = -(-columns // parts)
        parts = -(-columns // of_part)
        threads = block_of(of_part)
        while count >= MANY_BLOCKS and threads > 32 and threads * UNDER_WAY > rows.nbytes // count:
            threads //= 2
        places = self._empty_places((count * parts,))
        self.launch(
            "argmax", "argmax_rows", rows, (count * parts,), threads,
            rows, places, columns, of_part, parts, int(smallest), int(or_none), early=True,
        )  # fmt: skip
        if parts == 1:
            return places
        found = self._empty_places((count,))
        self.launch(
            "argmax", "argmax_of_parts", rows, (count,), block_of(parts),
            rows, places, found, columns, parts, int(smallest), int(or_none), early=True,
        )  # fmt: skip
        return found

    def _empty_places(self, shape: Shape) -> Any:
        return self.empty(shape, np.dtype(np.int64))


def shape_of_nothing(x: Array, axis: Axis, keepdims: bool) -> Shape | None:
    """The shape of the reduced x if x is empty but the reduced axes are not; else None."""
    if x.size or axis is None:
        return None
    reduced = {each % x.ndim for each in (axis if isinstance(axis, tuple) else (axis,))}
    if not all(x.shape[each] for each in reduced):
        return None
    kept = [1 if i in reduced else n for i, n in enumerate(x.shape) if keepdims or i not in reduced]
    return tuple(kept)
