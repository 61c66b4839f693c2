"""Additions and writes at an index, which may repeat, by kernels.

Floats are added in an order that depends only on shapes and the index, so results are
deterministic; CuPy adds integers atomically, which is exact. Of several numbers written to one
element, the last one stays.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.assignment import Assignment, repeats
from gradient.backends.cuda.launching import (
    DIVISOR,
    FLOATS,
    LOAD,
    KernelLauncher,
    computed_in,
    divisor,
)
from gradient.backends.required import Index, Shape

BLOCK = 256
MOST_AXES = MOST_ARRAYS = 8
MOST_ITEMS = 1 << 31
NARROW = (1 << 32) - 1
"""Rows that are counted in 32 bits."""
BUSY, LEAST_PART, PART = 1 << 16, 8, 64
"""Threads that keep a GPU busy, and items that each adds up: fewer where there are few."""
FEW = 64
"""Rows to an item from which items are sorted to know the last of a row: a number for each of these
would take more time, and memory."""
WORDS = (16, 8, 4, 2, 1)
"""Bytes that a thread may copy."""
PICKS = np.dtype(
    [("axes", np.int32), ("arrays", np.int32), ("size", DIVISOR, MOST_AXES)]
    + [("start", np.int64), ("steps", np.int64, MOST_AXES)]
    + [("strides", np.int64, (MOST_ARRAYS, MOST_AXES))]
    + [(name, np.int64, MOST_ARRAYS) for name in ("least", "size_of", "step_of")]
    + [("at", np.uint64, MOST_ARRAYS)]
)
"""`Index` of `indexed.cu`."""
INT64 = np.dtype(np.int64)
ALL = slice(None)


class Picked(NamedTuple):
    """An int64 array that indexes an axis, with indices counted from `least` on."""

    array: Array
    size: int
    step: int
    least: int


class Items(NamedTuple):
    """The selection of an index: items of this shape, whose rows are given by arrays.

    start, steps    offsets added to the arrays' rows: a constant, and a step along each axis
    repeats         whether a row may be selected more than once
    """

    shape: Shape
    arrays: list[Picked]
    start: int
    steps: Shape
    repeats: bool


class Axis(NamedTuple):
    """The selection of one part of an index on an axis.

    size    the size of the axis; 1 for a new axis
    step    the stride of selected elements
    start   the offset of the first element selected by a slice or an int
    number  how many elements a slice selects; None for an array or an int
    """

    part: Any
    size: int
    step: int
    start: int
    number: int | None


class Taken(NamedTuple):
    """The shape of an index's selection, the array viewed as (outer, rows, inner), and the selected
    items, each a row."""

    shape: Shape
    lines: Shape
    items: Items


class IndexedKernels(KernelLauncher, Assignment):
    """Overrides of `composed.attention`'s embedding_grad, and of required methods."""

    arange: Any
    zeros: Any
    _order_of_rows: Any

    def embedding_grad(self, g: Array, indices: Array, num_embeddings: int) -> Array:
        if not (self.has_kernel(g) and _counts(indices.size) and num_embeddings):
            return super().embedding_grad(g, indices, num_embeddings)
        index = self.contiguous(self.astype(indices, INT64)).reshape(-1)
        items = Items(index.shape, [Picked(index, num_embeddings, 1, 0)], 0, (0,), True)
        out = self.zeros((num_embeddings, g.shape[-1]), g.dtype)
        self._add(out.reshape((1, *out.shape)), items, g, False)
        return out

    def checked_indices(self, index: Array, axis: int, size: int) -> Array:
        """Check on the device; an index out of range is reported at the next copy to the host."""
        if _counts(index.size):
            flat = self.contiguous(self.astype(index, INT64)).reshape(-1)
            items = Items(flat.shape, [Picked(flat, size, 1, 0)], 0, (0,), False)
            self._rows_of("float32", size, items)
        return index[...]

    def index_add(self, x: Array, index: Index, value: Array) -> Array:
        if not self.has_kernel(x):
            return super().index_add(x, index, value)
        value = self.astype(value, x.dtype)
        if not (x.size and self._repeats(index)):
            return self.assign(x, index, x[index] + value)
        taken, whole = self._taken(x.shape, index), self.contiguous(x)
        if taken is None:
            places, value = self._places(x.shape, index, value)
            self.index_add(whole.reshape(-1), (places,), value)
        elif 0 not in taken.items.shape:
            if not _counts(math.prod(taken.items.shape)):
                return super().index_add(x, index, value)
            value = self._spread(value, taken.shape)
            self._add(whole.reshape(taken.lines), taken.items, value, True)
        return x if whole is x else self.assign(x, ..., whole)

    def put_along(self, x: Array, index: Array, value: Array, axis: int, add: bool) -> Array:
        takes = _counts(index.size) and index.ndim <= MOST_AXES and (self.has_kernel(x) or not add)
        if not takes:
            return super().put_along(x, index, value, axis, add)
        axis %= index.ndim or 1
        steps = [math.prod(x.shape[i + 1 :]) for i in range(x.ndim)]
        index = self.astype(index, INT64)
        items = Items(
            index.shape, [Picked(index, x.shape[axis], steps[axis], 0)], 0,
            tuple(step * (i != axis) for i, step in enumerate(steps)), index.shape[axis] > 1,
        )  # fmt: skip
        value = self.astype(value[tuple(map(slice, index.shape))], x.dtype)
        whole = self.contiguous(x)
        if add:
            self._add(whole.reshape((1, x.size, 1)), items, value, True)
        else:
            self._put(whole.reshape((1, x.size, 1)), items, value)
        return x if whole is x else self.assign(x, ..., whole)

    def assign(self, x: Array, index: Index, value: Any) -> Array:
        if not (
            isinstance(value, self.xp.ndarray)
            and value.size > 1
            and x.size
            and self._repeats(index)
        ):
            return super().assign(x, index, value)
        if not x.flags.c_contiguous:
            if repeats(x):
                return super().assign(x, index, value)
            return self.assign(x, ..., self.assign(self.copy(x), index, value))
        value, taken = self.astype(value, x.dtype), self._taken(x.shape, index)
        if taken is None:
            places, value = self._places(x.shape, index, value)
            self.assign(x.reshape(-1), (places,), value)
            return x
        if not _counts(math.prod(taken.items.shape)):
            return super().assign(x, index, value)
        if self.storage(value) is self.storage(x):
            value = self.copy(value)
        value = self._spread(value, taken.shape)
        self._put(x.reshape(taken.lines), taken.items, value)
        return x

    def _places(self, shape: Shape, index: Index, value: Array) -> tuple[Array, Array]:
        """Convert an index with masks, or with very many parts, to flat indices of the array;
        return them and the value for them."""
        places = self.arange(0, math.prod(shape), 1, INT64).reshape(shape)[index]
        value = self.contiguous(self._spread(value, places.shape))
        return places.reshape(-1), value.reshape(-1)

    def _spread(self, value: Array, shape: Shape) -> Array:
        """A value broadcast to the selection; as in NumPy, it may have leading axes of 1."""
        if value.shape == shape:
            return value
        more = value.ndim - len(shape)
        if more > 0 and value.shape[:more] == (1,) * more:
            value = value.reshape(value.shape[more:])
        return self.broadcast_to(value, shape)

    def _taken(self, shape: Shape, index: Index) -> Taken | None:
        """The selection of an index, if it has few parts and they are in range; else None."""
        axes = self._axes_taken(shape, index)
        arrays = [axis for axis in axes or () if self._is_line(axis.part)]
        if axes is None or not arrays or len(arrays) > MOST_ARRAYS:
            return None
        shapes = [axis.part.shape for axis in arrays]
        picks = shapes[0] if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        found = [i for i, axis in enumerate(axes) if axis.number is None]
        first, end = found[0], found[-1] + 1
        before, after = axes[:first], axes[end:]
        outer: Shape = ()
        inner: Shape = ()
        if end - first > len(found):  # separated arrays: their axes come first
            before, after = [], [axis for axis in axes if axis.number is not None]
        if all(axis.part == ALL for axis in before):
            before, outer = [], tuple(axis.size for axis in before)
        while len(inner) < len(axes) - end and after[-1].part == ALL:
            inner = (after.pop().size, *inner)
        of_row = math.prod(inner)
        size = (*(a.number or 0 for a in before), *picks, *(a.number or 0 for a in after))
        steps = (*(a.step for a in before), *(0 for _ in picks), *(a.step for a in after))
        if sum(n > 1 for n in size) > MOST_AXES:
            return None
        picked = [
            Picked(
                self.astype(axis.part, INT64).reshape(axis.part.shape + (1,) * len(after)),
                axis.size, axis.step // of_row, -axis.size,
            )
            for axis in reversed(arrays)
        ]  # fmt: skip
        items = Items(
            size, picked, sum(axis.start for axis in axes) // of_row,
            tuple(step // of_row for step in steps), math.prod(picks) > 1,
        )  # fmt: skip
        lines = math.prod(outer), math.prod(shape) // (math.prod(outer) * of_row), of_row
        return Taken((*outer, *size, *inner), lines, items)

    def _axes_taken(self, shape: Shape, index: Index) -> list[Axis] | None:
        """The index's selection on each axis; None if it cannot be determined (masks), or is out of
        range."""
        parts = list(index) if isinstance(index, tuple) else [index]
        dots = [i for i, part in enumerate(parts) if part is ...]
        wide = sum(part is not None and part is not ... for part in parts)
        if len(dots) > 1 or wide > len(shape):
            return None
        at = dots[0] if dots else len(parts)
        parts[at : at + 1] = [ALL] * (len(shape) - wide)
        axes: list[Axis] = []
        own = 0  # of the array's axes
        for part in parts:
            if part is None:
                axes.append(Axis(ALL, 1, 0, 0, 1))
                continue
            n, step = shape[own], math.prod(shape[own + 1 :])
            own += 1
            if type(part) is slice:
                start, stop, by = part.indices(n)
                count = len(range(start, stop, by))
                whole = (start, count, by) == (0, n, 1)
                axes.append(Axis(ALL if whole else part, n, by * step, start * step, count))
            elif self._is_line(part):
                axes.append(Axis(part, n, step, 0, None))
            elif type(part) is int and -n <= part < n:
                axes.append(Axis(part, n, step, part % n * step, None))
            else:
                return None
        return axes

    def _repeats(self, index: Index) -> bool:
        """Whether an index may select an element twice; integer arrays may, masks do not."""
        return any(map(self._is_line, index if isinstance(index, tuple) else (index,)))

    def _is_line(self, part: Any) -> bool:
        return isinstance(part, self.xp.ndarray) and part.dtype.kind in "iu"

    def _rows_of(self, kernels: str, rows: int, items: Items, last: Array | None = None) -> Array:
        """The row of each item, in 32 or 64 bits; `last` receives the last item of each row."""
        count, wide = math.prod(items.shape), rows > NARROW
        row_of = self.empty((count,), np.dtype(np.int64 if wide else np.uint32))
        self.runtime.launch(
            "indexed", "index_rows", kernels, (-(-count // BLOCK),), BLOCK,
            self._told(items), row_of, last, int(wide), count, self.index_fault(),
        )  # fmt: skip
        return row_of

    def _put(self, x: Array, items: Items, value: Array) -> None:
        """Replace the selected rows of x (outer, rows, inner) by `value` (outer, items, inner)."""
        (outer, rows, inner), count = x.shape, math.prod(items.shape)
        is_few = count * FEW < rows
        last = self.zeros((rows,), np.dtype(np.int32)) if items.repeats and not is_few else None
        kernels, value = _kernels_for(x), self.contiguous(value)
        row_of = self._rows_of(kernels, rows, items, last)
        order = self._order_of_rows(row_of, rows) if items.repeats and is_few else None
        width = self.runtime.address(value) | self.runtime.address(x) | inner * x.itemsize
        word = next(each for each in WORDS if width % each == 0)
        words = inner * x.itemsize // word
        self.runtime.launch(
            "indexed", "put_rows", kernels, (-(-outer * count * words // BLOCK),), BLOCK,
            value, row_of, last, order, x,
            int(row_of.itemsize == 8), outer, count, rows, words, word,
        )  # fmt: skip

    def _add(self, x: Array, items: Items, value: Array, adds: bool) -> None:
        """Add `value` (outer, items, inner) to the selected rows of x (outer, rows, inner). If not
        `adds`, x holds zeros, and the sums replace them."""
        (outer, rows, inner), count = x.shape, math.prod(items.shape)
        row_of: Any = self._rows_of(_kernels_for(x), rows, items)
        wide = row_of.itemsize == 8
        order = self._order_of_rows(row_of, rows) if items.repeats else None
        source: Any = self.contiguous(value)
        kernel, lanes, like = "add_runs", outer * inner * x.itemsize // LOAD, computed_in(x)
        of_part = PART if items.repeats else 1
        if count > PART:
            while of_part > LEAST_PART and count * max(lanes, 1) < BUSY * of_part:
                of_part //= 2
        while True:
            each = LOAD // source.itemsize
            addresses = self.runtime.address(source), self.runtime.address(x)
            packed = not (inner % each or addresses[0] % LOAD or addresses[1] % (each * x.itemsize))
            parts = -(-count // of_part)
            left, row_left = None, None
            if parts > 1 and items.repeats:
                left = self.empty((outer, 2 * parts, inner), np.dtype(like))
                row_left = self.empty((2 * parts,), row_of.dtype)
            threads = outer * parts * (inner // each if packed else inner)
            self.launch(
                "indexed", kernel, x, (-(-threads // BLOCK),), BLOCK,
                source, row_of, order, x, left, row_left,
                int(wide), outer, count, rows, inner, of_part, int(adds), int(packed),
            )  # fmt: skip
            if left is None:
                return
            source, row_of, order, count, of_part = left, row_left, None, 2 * parts, PART
            kernel = "add_parts" if x.itemsize == 2 else "add_runs"

    def _told(self, items: Items) -> np.ndarray:
        """The kernel's struct argument, passed by value."""
        layouts = tuple(
            (each.array.shape, each.array.strides, each.size, each.step, each.least)
            for each in items.arrays
        )
        told = _layout(items.shape, items.start, items.steps, layouts).copy()
        told["at"][0, : len(layouts)] = [self.runtime.address(each.array) for each in items.arrays]
        return told


def _kernels_for(x: Array) -> str:
    """The dtype of the kernels for x: float32's for other dtypes whose numbers are only moved."""
    return FLOATS.get(x.dtype, "float32")


def _counts(items: int) -> bool:
    """Whether the number of items is above 0 and fits in 31 bits."""
    return 0 < items < MOST_ITEMS


@functools.lru_cache(4096)
def _layout(
    shape: Shape, start: int, steps: Shape, arrays: tuple[tuple[Shape, Shape, int, int, int], ...]
) -> np.ndarray:
    """The kernel's description of an index, without its arrays' addresses and axes of 1."""
    told = np.zeros(1, PICKS)
    axes = [i for i in reversed(range(len(shape))) if shape[i] > 1]
    told["axes"], told["arrays"], told["start"] = len(axes), len(arrays), start
    for at, i in enumerate(axes):
        told["size"][0, at], told["steps"][0, at] = divisor(shape[i]), steps[i]
    for k, (own, strides, size, step, least) in enumerate(arrays):
        told["size_of"][0, k], told["step_of"][0, k], told["least"][0, k] = size, step, least
        new = len(shape) - len(own)
        for at, i in enumerate(axes):
            if i >= new and own[i - new] > 1:
                told["strides"][0, k, at] = strides[i - new] // INT64.itemsize
    return told
