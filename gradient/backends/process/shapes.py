"""Shapes and dtypes of results, which the client computes without the plugin.

For incompatible shapes, these raise the same errors as NumPy.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from gradient.backends.memory_order import row_major
from gradient.backends.recording_backend import OPERATORS
from gradient.backends.required import Axis, Shape

Strides = tuple[int, ...]


@functools.cache
def operator_dtypes(name: str, a: Any, b: Any) -> tuple[np.dtype, np.dtype]:
    """The dtypes of an operator's operands and result, from dtypes or types of Python numbers."""
    function = OPERATORS[name]
    given = [one(x) for x in (a, b) if x is not None]
    if name in ("lshift", "rshift", "pow"):
        given = [np.ones_like(x) if isinstance(x, np.ndarray) else x for x in given]
    result = np.asarray(function(*given)).dtype
    if len(given) == 1 or name == "truediv":
        return (given[0].dtype if len(given) == 1 else result), result
    return np.result_type(*given), result


@functools.cache
def common_dtype(*dtypes: Any) -> np.dtype:
    """The promoted dtype of arrays of these dtypes and numbers of these types."""
    return np.result_type(*map(one, dtypes))


def one(dtype: Any) -> Any:
    """A 1 of a dtype, or of a Python type."""
    return np.ones((), dtype) if isinstance(dtype, np.dtype) else dtype(1)


@functools.cache
def function_dtype(name: str, dtype: np.dtype) -> np.dtype:
    """The dtype of `np.name(x)`."""
    with np.errstate(all="ignore"):
        return np.asarray(getattr(np, name)(np.ones((), dtype))).dtype


@functools.cache
def broadcast(*shapes: Shape) -> Shape:
    return np.broadcast_shapes(*shapes)


def axes(axis: Axis, n: int) -> tuple[int, ...]:
    """An axis argument as a sorted tuple of axes >= 0."""
    if axis is None:
        return tuple(range(n))
    given = axis if isinstance(axis, tuple) else (axis,)
    for a in given:
        if not -n <= a < n:
            raise np.exceptions.AxisError(a, n)
    return tuple(sorted(a % n for a in given))


def reduced(shape: Shape, over: tuple[int, ...], keepdims: bool) -> Shape:
    if keepdims:
        return tuple(1 if i in over else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in over)


@functools.cache
def matmul(a: Shape, b: Shape) -> Shape:
    """The shape of a @ b, where either may be a vector."""
    rows, columns = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    if not a or not b or rows[-1] != columns[-2]:
        raise ValueError(f"matmul: shapes {a} and {b} do not go together")
    shape = (*np.broadcast_shapes(rows[:-2], columns[:-2]), rows[-2], columns[-1])
    if len(a) == 1:
        shape = (*shape[:-2], shape[-1])
    return shape[:-1] if len(b) == 1 else shape


def reshape(old: Shape, new: Any) -> Shape:
    """The shape `new` with -1 replaced by its size."""
    shape = (new,) if isinstance(new, int) else tuple(map(operator.index, new))
    size, unknown = math.prod(old), shape.count(-1)
    if unknown == 1:
        rest = math.prod(n for n in shape if n != -1)
        if rest and size % rest == 0:
            shape = tuple(size // rest if n == -1 else n for n in shape)
    if unknown > 1 or math.prod(shape) != size or any(n < 0 for n in shape):
        raise ValueError(f"cannot reshape array of size {size} into shape {shape}")
    return shape


def reshaped_strides(old: Shape, strides: Strides, new: Shape) -> Strides | None:
    """The strides of a view of another shape; None if a reshape must copy."""
    if 0 in old:
        return row_major(new)
    runs: list[list[int]] = []  # [size, stride] of axes that can be merged to one
    for size, stride in zip(old, strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = [runs[-1][0] * size, stride]
        else:
            runs.append([size, stride])
    result: list[int] = []
    run = len(runs) - 1
    left = runs[run][0] if runs else 1
    step = runs[run][1] if runs else 1
    for size in reversed(new):
        if size == 1:
            result.append(step)
            continue
        if left == 1:
            run -= 1
            left, step = runs[run]
        if left % size:
            return None
        result.append(step)
        left //= size
        step *= size
    return tuple(reversed(result))


# Indexing ----------------------------------------------------------------------------------------


def whole_index(index: Any, shape: Shape) -> tuple[Any, ...]:
    """An index with slices for an Ellipsis and for missing trailing axes."""
    items = index if isinstance(index, tuple) else (index,)
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if taken > len(shape):
        raise IndexError(
            f"too many indices for array: array is {len(shape)}-dimensional, but {taken} were "
            "indexed"
        )
    rest = (slice(None),) * (len(shape) - taken)
    for i, item in enumerate(items):
        if item is Ellipsis:
            return (*items[:i], *rest, *items[i + 1 :])
    return (*items, *rest)


def basic(
    items: tuple[Any, ...], shape: Shape, strides: Strides
) -> tuple[Shape, Strides, list[Any]]:
    """Shape and strides of a view by ints, slices and None, and the index with explicit numbers."""
    out: list[int] = []
    steps: list[int] = []
    settled: list[Any] = []
    axis = 0
    for item in items:
        if item is None:
            out.append(1)
            steps.append(0)
            settled.append(None)
            continue
        size, stride = shape[axis], strides[axis]
        if isinstance(item, slice):
            start, stop, step = item.indices(size)
            n = len(range(start, stop, step))
            out.append(n)
            steps.append(stride * step)
            settled.append(("slice", start, n, step))
        else:
            settled.append(position(item, size, axis))
        axis += 1
    return tuple(out), tuple(steps), settled


def position(item: Any, size: int, axis: int) -> int:
    """An integer index as a position from the start."""
    i = operator.index(item)
    if not -size <= i < size:
        raise IndexError(f"index {i} is out of bounds for axis {axis} with size {size}")
    return i % size


def advanced(items: tuple[Any, ...], shape: Shape) -> tuple[Shape, list[Any], list[Any]]:
    """The result's shape for an index with integer arrays, the index with explicit numbers, and its
    arrays. As in NumPy, their axes come first if a slice separates them."""
    arrays = [item for item in items if hasattr(item, "dtype")]
    picked = broadcast(*(tuple(item.shape) for item in arrays))
    before: list[int] = []
    after: list[int] = []
    settled: list[Any] = []
    blocks = axis = n = 0
    inside = False
    for item in items:
        # An integer beside arrays counts as an array.
        if hasattr(item, "dtype") or isinstance(item, int):
            blocks += not inside
            inside = True
            if hasattr(item, "dtype"):
                settled.append(("array", n))
                n += 1
            else:
                settled.append(position(item, shape[axis], axis))
            axis += 1
            continue
        inside = False
        if item is None:
            size = 1
            settled.append(None)
        else:
            start, stop, step = item.indices(shape[axis])
            size = len(range(start, stop, step))
            settled.append(("slice", start, size, step))
            axis += 1
        (after if blocks else before).append(size)
    if blocks > 1:
        return (*picked, *before, *after), settled, arrays
    return (*before, *picked, *after), settled, arrays
