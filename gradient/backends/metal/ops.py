"""The ops that every plugin has, on MLX: functions of arrays and options.

Results are cast to the dtype in the message. MLX computes elementary functions of float64 in single
precision, and Metal has no float64, so NumPy computes those of float64.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from gradient.backends.metal.bounds import divisor, unless_bad, within
from gradient.backends.process.numpy_plugin import HALF as HALF_NAMES
from gradient.backends.process.numpy_plugin import index_of

Function = Callable[..., Any]

DTYPES = {
    "bool": mx.bool_, "uint8": mx.uint8, "uint16": mx.uint16, "uint32": mx.uint32,
    "uint64": mx.uint64, "int8": mx.int8, "int16": mx.int16, "int32": mx.int32, "int64": mx.int64,
    "float16": mx.float16, "float32": mx.float32, "float64": mx.float64, "bfloat16": mx.bfloat16,
}  # fmt: skip
HALF = tuple(DTYPES[name] for name in HALF_NAMES)
FLOATS = (mx.float16, mx.bfloat16, mx.float32, mx.float64)


def from_numpy(x: np.ndarray) -> Any:
    """A copy of the same dtype. (By default, MLX converts float64 to float32.)"""
    dtype = mx.float64 if x.dtype == np.float64 else None
    return mx.array(x, dtype=dtype) if x.ndim else mx.array(x.reshape(1), dtype=dtype).reshape(())


def to_numpy(x: Any) -> np.ndarray:
    """A read-only view of the values; for bfloat16, of the bits."""
    return np.array(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x, copy=False)


def on_host(name: str, function: Function) -> Function:
    """`function`, or NumPy's function `name` for float64."""
    exact = getattr(np, name)

    def run(*arrays: Any) -> Any:
        if arrays[0].dtype == mx.float64:
            return from_numpy(np.asarray(exact(*map(to_numpy, arrays))))
        return function(*arrays)

    return run


def wide(function: Function) -> Function:
    """Decorator: compute 16-bit floats in float32; the final cast rounds the result once."""

    def run(x: Any, *others: Any, **options: Any) -> Any:
        return function(x.astype(mx.float32) if x.dtype in HALF else x, *others, **options)

    return run


def total(function: Function) -> Function:
    """A sum or product over axes; of integers, in int64."""

    def run(x: Any, axes: list[int], keepdims: bool) -> Any:
        x = x if x.dtype in FLOATS else x.astype(mx.int64)
        return function(x, axis=axes, keepdims=keepdims)

    return wide(run)


def extreme(function: Function) -> Function:
    def run(x: Any, axes: list[int], keepdims: bool) -> Any:
        return function(x, axis=axes, keepdims=keepdims)

    return run


@wide
def cumsum(x: Any, axis: int) -> Any:
    return mx.cumsum(x if x.dtype in FLOATS else x.astype(mx.int64), axis=axis)


def matmul(a: Any, b: Any) -> Any:
    if a.dtype not in FLOATS:  # MLX multiplies only float matrices
        if a.ndim < 2 or b.ndim < 2:
            return (a[..., None] * b if b.ndim > 1 else a * b).sum(-2 if b.ndim > 1 else -1)
        return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
    return a @ b


def argmax(x: Any, axis: int) -> Any:
    if x.dtype == mx.bool_:
        x = x.astype(mx.uint8)
    return mx.argmax(x, axis=axis)


def getitem(x: Any, *arrays: Any, index: list[Any]) -> Any:
    return x[index_of(index, _inside(x, index, arrays))]


def assign(x: Any, value: Any, *arrays: Any, index: list[Any]) -> Any:
    if not value.size:
        return x
    out = mx.array(x)  # a new handle, so x keeps its values
    where = place(x, index, _inside(x, index, arrays))
    out[where] = unless_bad(value.astype(x.dtype), lambda: x[where])
    return out


def index_add(x: Any, value: Any, *arrays: Any, index: list[Any]) -> Any:
    where = place(x, index, _inside(x, index, arrays))
    if not value.size:
        return x
    return x.at[where].add(unless_bad(value, lambda: mx.zeros_like(value)))


def _inside(x: Any, items: list[Any], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays of an index, clipped to the axes of x that they index."""
    found, axis = list(arrays), 0
    for item in items:
        if isinstance(item, list) and item[0] == "array":
            size = x.shape[axis]
            found[item[1]] = within(arrays[item[1]], -size, size, axis)
        axis += item is not None
    return tuple(found)


def place(x: Any, items: list[Any], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index for a write. If arrays are mixed with slices or new axes, all become arrays, as
    MLX then writes to other places than NumPy. (Whole axes at the end need no change.)"""
    index = index_of(items, arrays)
    picked = [i for i, item in enumerate(index) if isinstance(item, mx.array)]
    if not picked:
        return index
    picked = [i for i, item in enumerate(index) if isinstance(item, (int, mx.array))]
    rest = [i for i in range(len(index)) if i not in picked]
    last = max(picked)
    if last == len(picked) - 1 and all(_is_whole(items[i], x.shape[i]) for i in rest):
        return index[: last + 1]
    together = last - picked[0] == len(picked) - 1
    before = sum(i < picked[0] for i in rest) if together else 0
    width = max(getattr(index[i], "ndim", 0) for i in picked)
    ndim = width + len(rest)  # of the indexed part
    found = []
    for i, item in enumerate(index):
        if i in picked:
            numbers, end = mx.array(item), before + width
            found.append(numbers.reshape(*numbers.shape, *(1,) * (ndim - end)))
        elif item is not None:
            n = rest.index(i)
            after = ndim - 1 - (n if n < before else n + width)
            _, start, count, step = items[i]
            found.append((start + step * mx.arange(count)).reshape(-1, *(1,) * after))
    return tuple(found)


def _is_whole(item: Any, size: int) -> bool:
    return item == ["slice", 0, size, 1]


def _along(index: Any, axis: int) -> tuple[Any, ...]:
    """The full index: `index` for `axis`, and the element's own position for other axes."""
    n = index.ndim
    grid = [
        mx.arange(size).reshape((-1,) + (1,) * (n - 1 - i)) for i, size in enumerate(index.shape)
    ]
    grid[axis] = index
    return tuple(grid)


def take_along(x: Any, index: Any, axis: int) -> Any:
    return x[_along(within(index, 0, x.shape[axis], axis), axis)]


def put_along(x: Any, index: Any, value: Any, axis: int, add: bool) -> Any:
    where = _along(within(index, 0, x.shape[axis], axis), axis)
    if not index.size:
        return x
    if add:
        return x.at[where].add(unless_bad(value, lambda: mx.zeros_like(value)))
    out = mx.array(x)
    out[where] = unless_bad(value, lambda: x[where])
    return out


def where(condition: Any, a: Any, b: Any) -> Any:
    return mx.where(condition, a, b)


def floordiv(a: Any, b: Any) -> Any:
    if a.dtype in FLOATS:
        return from_numpy(to_numpy(a) // to_numpy(b)) if a.dtype == mx.float64 else mx.floor(a / b)
    return a // divisor(b)


def mod(a: Any, b: Any) -> Any:
    return mx.remainder(a, b if a.dtype in FLOATS else divisor(b))


UNARY = ("exp", "log", "sqrt", "sin", "cos", "tanh")
OPS: dict[str, Function] = {
    **{name: on_host(name, getattr(mx, name)) for name in UNARY},
    "arctan2": on_host("arctan2", mx.arctan2),
    "pow": on_host("power", mx.power),
    "floor": mx.floor,
    "abs": mx.abs,
    "maximum": mx.maximum,
    "minimum": mx.minimum,
    "add": mx.add, "sub": mx.subtract, "mul": mx.multiply, "truediv": mx.divide,
    "floordiv": floordiv, "mod": mod,
    "and": mx.bitwise_and, "or": mx.bitwise_or, "xor": mx.bitwise_xor,
    "lshift": mx.left_shift, "rshift": mx.right_shift,
    "eq": mx.equal, "ne": mx.not_equal, "lt": mx.less, "le": mx.less_equal,
    "gt": mx.greater, "ge": mx.greater_equal,
    "neg": operator.neg, "invert": operator.invert,
    "where": where,
    "sum": total(mx.sum),
    "prod": total(mx.prod),
    "max": extreme(mx.max),
    "min": extreme(mx.min),
    "argmax": argmax,
    "cumsum": cumsum,
    "argsort": lambda x, axis: mx.argsort(x, axis=axis),
    "matmul": matmul,
    "permute": lambda x, axes: mx.transpose(x, axes),
    "concatenate": lambda *arrays, axis: mx.concatenate(list(arrays), axis=axis),
    "copy": lambda x: x,
    "astype": lambda x: x,
    "getitem": getitem,
    "assign": assign,
    "index_add": index_add,
    "in_range": lambda x, axis, size: within(x, 0, size, axis),
    "take_along": take_along,
    "put_along": put_along,
}  # fmt: skip


def arange(start: Any, step: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return start + mx.arange(shape[0]).astype(dtype) * step


def bitcast(x: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return mx.contiguous(x).view(dtype).reshape(shape)


SHAPED: dict[str, Function] = {
    "full": lambda value, dtype, shape: mx.broadcast_to(value, shape),
    "arange": arange,
    "reshape": lambda x, dtype, shape: mx.reshape(x, shape),
    "broadcast_to": lambda x, dtype, shape: mx.broadcast_to(x, shape),
    "bitcast": bitcast,
}
"""Ops that also get the result's dtype and shape."""
