"""Additions and writes at an index, in which a place may come many times, by kernels.

Floats are added in an order that follows from shapes and index alone; CuPy adds the rest
atomically, integers, exactly. Of several numbers that are written to one place the last stays.
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
    """An array of int64 that says an index of an axis, from `least` on."""

    array: Array
    size: int
    step: int
    least: int


class Items(NamedTuple):
    """What an index takes: items of this shape, whose rows arrays say.

    start, steps    rows that are added to what the arrays say: to all, and by places along the axes
    repeats         whether a row may come more than once
    """

    shape: Shape
    arrays: list[Picked]
    start: int
    steps: Shape
    repeats: bool


class Taken(NamedTuple):
    """The shape of what an index takes of an array, the array as (outer, rows, inner), and the
    items, each of which is a row."""

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
        """Those out of range are told at the next copy to the host."""
        if _counts(index.size) and index.ndim <= MOST_AXES:
            picked = Picked(self.astype(index, INT64), size, 1, 0)
            items = Items(index.shape, [picked], 0, (0,) * index.ndim, False)
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
        """What an index of any kind takes, as one of the flattened array, and the value for it."""
        places = self.arange(0, math.prod(shape), 1, INT64).reshape(shape)[index]
        value = self.contiguous(self._spread(value, places.shape))
        return places.reshape(-1), value.reshape(-1)

    def _spread(self, value: Array, shape: Shape) -> Array:
        """A value broadcast to what an index takes: it may have axes of 1 before, as NumPy's."""
        if value.shape == shape:
            return value
        more = value.ndim - len(shape)
        if more > 0 and value.shape[:more] == (1,) * more:
            value = value.reshape(value.shape[more:])
        return self.broadcast_to(value, shape)

    def _taken(self, shape: Shape, index: Index) -> Taken | None:
        """What an index takes of an array, if it is made of arrays of integers side by side, and
        of integers between them."""
        parts = list(index) if isinstance(index, tuple) else [index]
        dots = [i for i, part in enumerate(parts) if part is ...]
        if len(dots) > 1 or len(parts) - len(dots) > len(shape):
            return None
        absent = [ALL] * (len(shape) - len(parts) + len(dots))
        at = dots[0] if dots else len(parts)
        parts[at : at + 1] = absent
        picking = [i for i, part in enumerate(parts) if not (type(part) is slice and part == ALL)]
        arrays = [parts[i] for i in picking if self._is_line(parts[i])]
        if not arrays or len(arrays) > MOST_ARRAYS or picking[-1] - picking[0] >= len(picking):
            return None
        first, end = picking[0], picking[-1] + 1
        shapes = [array.shape for array in arrays]
        size = shapes[0] if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        if len(size) > MOST_AXES:
            return None
        picked, start, step = [], 0, 1
        for part, n in zip(reversed(parts[first:end]), reversed(shape[first:end]), strict=True):
            if self._is_line(part):
                picked.append(Picked(self.astype(part, INT64), n, step, -n))
            elif type(part) is int and -n <= part < n:
                start += part % n * step
            else:
                return None
            step *= n
        lines = math.prod(shape[:first]), step, math.prod(shape[end:])
        items = Items(size, picked, start, (0,) * len(size), math.prod(size) > 1)
        return Taken((*shape[:first], *size, *shape[end:]), lines, items)

    def _repeats(self, index: Index) -> bool:
        """Whether an index may take a place twice, as arrays of integers do and masks do not."""
        return any(map(self._is_line, index if isinstance(index, tuple) else (index,)))

    def _is_line(self, part: Any) -> bool:
        return isinstance(part, self.xp.ndarray) and part.dtype.kind in "iu"

    def _rows_of(self, kernels: str, rows: int, items: Items, last: Array | None = None) -> Array:
        """Which of so many rows each item is, in 32 bits or 64; `last` gets the last item of each
        row."""
        count, wide = math.prod(items.shape), rows > NARROW
        row_of = self.empty((count,), np.dtype(np.int64 if wide else np.uint32))
        self.runtime.launch(
            "indexed", "index_rows", kernels, (-(-count // BLOCK),), BLOCK,
            self._told(items), row_of, last, np.int64(wide), np.int64(count), self.index_fault(),
        )  # fmt: skip
        return row_of

    def _put(self, x: Array, items: Items, value: Array) -> None:
        """x (outer, rows, inner) gets `value`, of (outer, items, inner), in place of its rows."""
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
            *map(np.int64, (row_of.itemsize == 8, outer, count, rows, words, word)),
        )  # fmt: skip

    def _add(self, x: Array, items: Items, value: Array, adds: bool) -> None:
        """x (outer, rows, inner) gets what is given for its rows: `value`, of (outer, items,
        inner), added; or, if x holds zeros, in their place."""
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
                *map(np.int64, (wide, outer, count, rows, inner, of_part, adds, packed)),
            )  # fmt: skip
            if left is None:
                return
            source, row_of, order, count, of_part = left, row_left, None, 2 * parts, PART
            kernel = "add_parts" if x.itemsize == 2 else "add_runs"

    def _told(self, items: Items) -> np.ndarray:
        """The argument by value."""
        layouts = tuple(
            (each.array.shape, each.array.strides, each.size, each.step, each.least)
            for each in items.arrays
        )
        told = _layout(items.shape, items.start, items.steps, layouts).copy()
        told["at"][0, : len(layouts)] = [self.runtime.address(each.array) for each in items.arrays]
        return told


def _kernels_for(x: Array) -> str:
    """Those of float32 where numbers are only moved, of another kind."""
    return FLOATS.get(x.dtype, "float32")


def _counts(items: int) -> bool:
    """Whether there are some, and 31 bits count them."""
    return 0 < items < MOST_ITEMS


@functools.lru_cache(4096)
def _layout(
    shape: Shape, start: int, steps: Shape, arrays: tuple[tuple[Shape, Shape, int, int, int], ...]
) -> np.ndarray:
    """What an index is, but for where its arrays lie. Axes of 1 are left out."""
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
