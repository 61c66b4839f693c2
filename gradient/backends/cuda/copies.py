"""Copies and casts by kernels (`copies.cu`), or by the driver if the memory order is the same."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.assignment import Assignment, repeats
from gradient.backends.cuda.launching import DIVISOR, FLOATS, LOAD, KernelLauncher, divisor
from gradient.backends.memory_order import dimension_order, positions
from gradient.backends.required import Index, Shape

BLOCK = 256
UNDER_WAY = 64
"""Bytes of the wider type that a thread has loaded before it stores them, 16 bytes at a time."""
ELEMENTS, OF_ROW, TILE = 8 * BLOCK, 16 * BLOCK, 64
"""Numbers of a block that copies them one by one, or a row's; and a tile's along an axis."""
LONG_ROW, LEAST_TILE = 1024, 16
"""From how many numbers side by side on a row has blocks of its own; and a tile pays."""
COUNTED = 1 << 31
MOST_AXES = 6
MOST_CONCATENATED = 16
"""Arrays that are copied by a launch each."""
WALK = np.dtype(
    [("axes", np.int32), ("unused", np.int32), ("size", DIVISOR, MOST_AXES)]
    + [(name, np.int64, MOST_AXES) for name in ("from", "to")]
)
BASIC = (int, slice, type(None), type(Ellipsis), np.int64)
"""What an index that gives a view is made of."""


class Axis(NamedTuple):
    """The size of an axis, and its strides, in elements, in the source and the destination."""

    size: int
    read: int
    written: int


class Plan(NamedTuple):
    """A way to copy: the kernel, its blocks, and its arguments after the two arrays."""

    kernel: str
    blocks: int
    arguments: tuple[Any, ...]


class CopyKernels(KernelLauncher, Assignment):
    """Overrides of required methods."""

    def astype(self, x: Array, dtype: np.dtype) -> Array:
        if x.dtype == dtype:
            return x
        if x.dtype.char == "?" and isinstance(x, self.xp.ndarray):
            made = self.runtime.arithmetic.from_bool(x, dtype)
            if made is not None:
                return made
        elif x.size and x.dtype in FLOATS and dtype in FLOATS:
            out = self._empty_like(x, dtype)
            if self._copied(x, out):
                return out
        return self.runtime.with_operators(super().astype(x, dtype))  # CuPy's is of its own class

    def copy(self, x: Array) -> Array:
        out = self.empty(x.shape, x.dtype)
        return out if self._copied(x, out) else super().copy(x)

    def clone(self, x: Array) -> Array:
        out = self._empty_like(x, x.dtype)
        return out if self._copied(x, out) else super().clone(x)

    def contiguous(self, x: Array) -> Array:
        return x if self.runtime.is_contiguous(x) else self.copy(x)

    def reshape(self, x: Array, shape: Shape) -> Array:
        if not (self.runtime.is_contiguous(x) or _is_view(x.shape, x.strides, tuple(shape))):
            x = self.copy(x)
        return x.reshape(shape)

    def concatenate(self, arrays: list[Array], axis: int) -> Array:
        first = arrays[0] if arrays else None
        if (
            first is None
            or first.dtype not in FLOATS
            or len(arrays) > MOST_CONCATENATED
            or not -first.ndim <= axis < first.ndim
            or any(x.dtype != first.dtype or x.ndim != first.ndim for x in arrays)
        ):
            return super().concatenate(arrays, axis)
        axis %= first.ndim
        shape = list(first.shape)
        if any((*x.shape[:axis], *x.shape[axis + 1 :]) != (*shape[:axis], *shape[axis + 1 :])
               for x in arrays):  # fmt: skip
            return super().concatenate(arrays, axis)
        shape[axis] = sum(x.shape[axis] for x in arrays)
        out = self.empty(tuple(shape), first.dtype)
        begin = 0
        for x in arrays:
            end = begin + x.shape[axis]
            place = (*(slice(None),) * axis, slice(begin, end))
            if not self._copied(x, out[place]):
                out[place] = x
            begin = end
        return out

    def assign(self, x: Array, index: Index, value: Any) -> Array:
        if (
            isinstance(value, self.xp.ndarray)
            and x.dtype in FLOATS
            and value.dtype in FLOATS
            and (index is ... or _is_basic(index))
        ):
            place = x if index is ... else x[index]
            if (
                isinstance(place, self.xp.ndarray)
                and _fits(value.shape, place.shape)
                and not (repeats(place) or self._overlap(place, value))
            ):
                value = (
                    value if value.shape == place.shape else self.broadcast_to(value, place.shape)
                )
                if self._copied(value, place):
                    return x
        elif (
            type(value) in (float, int) and x.dtype in FLOATS and (index is ... or _is_basic(index))
        ):
            place = x if index is ... else x[index]
            if (
                isinstance(place, self.xp.ndarray)
                and self.runtime.is_contiguous(place)
                and self.runtime.arithmetic.fill(place, value)
            ):
                return x
        return super().assign(x, index, value)

    def _copied(self, x: Array, out: Array) -> bool:
        """Queue out[...] = x, of the same shape and other memory; return False if no kernel can."""
        if not (isinstance(x, self.xp.ndarray) and isinstance(out, self.xp.ndarray)):
            return False  # NumPy's scalars, in tests
        if not x.size:
            return True
        is_contiguous = self.runtime.is_contiguous
        if x.dtype == out.dtype and is_contiguous(x) and is_contiguous(out):
            self.runtime.copy_bytes(x, out)
            return True
        aligned = (self.runtime.address(x) | self.runtime.address(out)) % LOAD == 0
        plan = _plan(x.shape, x.strides, out.strides, x.itemsize, out.itemsize, aligned)
        if plan is not None and plan.kernel == "cast" and x.dtype == out.dtype:
            self.runtime.copy_bytes(x, out)
            return True
        if plan is None or not (x.dtype in FLOATS and out.dtype in FLOATS):
            return False
        kernel = f"{plan.kernel}_to_{FLOATS[out.dtype]}"
        self.launch("copies", kernel, x, (plan.blocks,), BLOCK, x, out, *plan.arguments)
        return True

    def _empty_like(self, x: Array, dtype: np.dtype) -> Array:
        """An array without gaps, with the memory order of x's axes."""
        if self.runtime.is_contiguous(x):
            return self.empty(x.shape, dtype)
        order = dimension_order(x.shape, x.strides)
        out = self.empty(tuple(x.shape[i] for i in order), dtype)
        return out.transpose(positions(order))


def _is_basic(index: Any) -> bool:
    return all(type(i) in BASIC for i in (index if isinstance(index, tuple) else (index,)))


def _fits(shape: Shape, place: Shape) -> bool:
    """Whether an array of this shape can be broadcast to the place."""
    return len(shape) <= len(place) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(place), strict=False)
    )


def _merged(axes: list[Axis]) -> list[Axis]:
    """Merge adjacent axes where strides allow, from the fastest on."""
    merged: list[Axis] = []
    for axis in axes:
        last = merged[-1] if merged else None
        if last and axis.read == last.read * last.size and axis.written == last.written * last.size:
            merged[-1] = last._replace(size=last.size * axis.size)
        elif axis.size > 1:
            merged.append(axis)
    return merged


@functools.lru_cache(4096)
def _is_view(shape: Shape, strides: Shape, new: Shape) -> bool:
    """Whether an array can be reshaped to `new` without a copy: each of its runs of mergeable axes
    splits into whole axes of the new shape."""
    size = math.prod(shape)
    given = math.prod(n for n in new if n >= 0)
    if not size or not given:
        return True  # of nothing; or it is no shape of it, which the library says
    sizes = [size // given if n < 0 else n for n in new if n != 1]
    axes = [
        Axis(n, step, step)
        for n, step in zip(reversed(shape), reversed(strides), strict=True)
        if n > 1
    ]
    for axis in _merged(axes):
        held = 1
        while held < axis.size and sizes:
            held *= sizes.pop()
        if held != axis.size:
            return False
    return True


@functools.lru_cache(4096)
def _plan(
    shape: Shape, read: Shape, written: Shape, from_width: int, to_width: int, aligned: bool
) -> Plan | None:
    """The way to copy; None if no kernel can, or an element would be written twice."""
    axes = []
    for size, of_read, of_written in zip(shape, read, written, strict=True):
        if size == 1:
            continue
        if of_read % from_width or of_written % to_width or not of_written:
            return None
        axes.append(Axis(size, of_read // from_width, of_written // to_width))
    axes = _merged(sorted(axes, key=lambda axis: abs(axis.written)))
    count, pack = math.prod(shape), LOAD // to_width
    packs = BLOCK * (UNDER_WAY // (pack * max(from_width, to_width)))  # of a block
    first = axes[0] if axes else Axis(1, 1, 1)
    if len(axes) <= 1 and first.read == first.written == 1:
        return Plan("cast", -(-count // (packs * pack)), (count,))
    if len(axes) > MOST_AXES:
        return None
    if first.read == first.written == 1:
        whole = aligned and first.size % pack == 0 and not any(
            axis.read * from_width % LOAD or axis.written * to_width % LOAD for axis in axes[1:]
        )  # fmt: skip
        if whole:
            axes[0] = Axis(first.size // pack, pack, pack)
            return _items("packs", axes, packs)
        if first.size >= LONG_ROW:
            of_row = -(-first.size // OF_ROW)
            blocks = of_row * math.prod(axis.size for axis in axes[1:])
            sizes = first.size, of_row
            return Plan("rows", blocks, (_walk(axes[1:]), *sizes)) if blocks < COUNTED else None
    side = next((axis for axis in axes if axis.read == 1), first)
    if (
        first.written == 1
        and side is not first
        and min(first.size, side.size) >= LEAST_TILE
        and max(first.size, side.size) < COUNTED
    ):
        outer = [axis for axis in axes if axis not in (first, side)]
        blocks = math.prod(-(-axis.size // TILE) for axis in (first, side))
        blocks *= math.prod(axis.size for axis in outer)
        told = (side.size, first.size, first.read, side.written)
        return Plan("tiles", blocks, (_walk(outer), *told)) if blocks < COUNTED else None
    return _items("elements", axes, ELEMENTS)


def _items(kernel: str, axes: list[Axis], each: int) -> Plan | None:
    items = math.prod(axis.size for axis in axes)
    if items >= COUNTED:
        return None
    return Plan(kernel, -(-items // each), (_walk(axes), items))


def _walk(axes: list[Axis]) -> np.ndarray:
    """The kernel's struct argument, passed by value."""
    walk = np.zeros(1, WALK)
    walk["axes"] = len(axes)
    for i, axis in enumerate(axes):
        walk["size"][0, i] = divisor(axis.size)
        walk["from"][0, i], walk["to"][0, i] = axis.read, axis.written
    return walk
