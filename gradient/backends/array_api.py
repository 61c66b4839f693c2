"""What NumPy and CuPy share: every required method, in terms of a module with NumPy's functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.base import Backend
from gradient.backends.required import Axis, Index, Shape
from gradient.dtypes import HALF_PRECISION, float32, int64

FLOAT32, INT64 = float32.numpy, int64.numpy

Array = np.ndarray
"""Or CuPy's, which has the same methods."""


class ArrayAPIBackend(Backend[Array]):
    """A backend over `xp`, a module with NumPy's functions and in-place arrays."""

    xp: Any = np

    # Creation and transfer -----------------------------------------------------------------------

    def asarray(be, value: Any, dtype: np.dtype | None = None) -> Array:
        return be.xp.asarray(value, dtype)

    def empty(be, shape: Shape, dtype: np.dtype) -> Array:
        return be.xp.empty(shape, dtype)

    def full(be, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        return be.xp.full(shape, value, dtype)

    def zeros(be, shape: Shape, dtype: np.dtype) -> Array:
        return be.xp.zeros(shape, dtype)

    def arange(be, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        return be.xp.arange(start, stop, step, dtype)

    def to_numpy(be, x: Array) -> np.ndarray:
        return np.asarray(x)

    def astype(be, x: Array, dtype: np.dtype) -> Array:
        return x if x.dtype == dtype else x.astype(dtype)

    def bitcast(be, x: Array, dtype: np.dtype) -> Array:
        if x.dtype.itemsize != dtype.itemsize:  # needs a last axis without gaps, aligned
            x = be.xp.ascontiguousarray(x)
        return x.view(dtype)

    def copy(be, x: Array) -> Array:
        return be.xp.array(x, order="C")

    def clone(be, x: Array) -> Array:
        return be.xp.array(x, order="K")

    # Elementwise: NumPy's own where it has the function, the composed default where not ---------

    def exp(be, x: Array) -> Array:
        return be.xp.exp(x)

    def log(be, x: Array) -> Array:
        return be.xp.log(x)

    def sqrt(be, x: Array) -> Array:
        return be.xp.sqrt(x)

    def sin(be, x: Array) -> Array:
        return be.xp.sin(x)

    def cos(be, x: Array) -> Array:
        return be.xp.cos(x)

    def tan(be, x: Array) -> Array:
        return be.xp.tan(x)

    def tanh(be, x: Array) -> Array:
        return be.xp.tanh(x)

    def arctan2(be, y: Array, x: Array) -> Array:
        return be.xp.arctan2(y, x)

    def expm1(be, x: Array) -> Array:
        return be.xp.expm1(x)

    def log1p(be, x: Array) -> Array:
        return be.xp.log1p(x)

    def arcsin(be, x: Array) -> Array:
        return be.xp.arcsin(x)

    def arccos(be, x: Array) -> Array:
        return be.xp.arccos(x)

    def arctan(be, x: Array) -> Array:
        return be.xp.arctan(x)

    def sinh(be, x: Array) -> Array:
        return be.xp.sinh(x)

    def cosh(be, x: Array) -> Array:
        return be.xp.cosh(x)

    def arcsinh(be, x: Array) -> Array:
        return be.xp.arcsinh(x)

    def arccosh(be, x: Array) -> Array:
        return be.xp.arccosh(x)

    def arctanh(be, x: Array) -> Array:
        return be.xp.arctanh(x)

    def log2(be, x: Array) -> Array:
        return be.xp.log2(x)

    def log10(be, x: Array) -> Array:
        return be.xp.log10(x)

    def exp2(be, x: Array) -> Array:
        return be.xp.exp2(x)

    def isnan(be, x: Array) -> Array:
        return be.xp.isnan(x)

    def isfinite(be, x: Array) -> Array:
        return be.xp.isfinite(x)

    def sign(be, x: Array) -> Array:
        out = be.xp.sign(x)
        return out if x.dtype.kind in "biu" else be.xp.where(out == out, out, x.dtype.type(0))

    def fmod(be, a: Array, b: Array) -> Array:
        return be.xp.fmod(a, b)

    def floor(be, x: Array) -> Array:
        return be.xp.floor(x)

    def ceil(be, x: Array) -> Array:
        return be.xp.ceil(x)

    def trunc(be, x: Array) -> Array:
        return be.xp.trunc(x)

    def round(be, x: Array) -> Array:
        return be.xp.rint(x)

    def abs(be, x: Array) -> Array:
        return be.xp.abs(x)

    def maximum(be, a: Array, b: Array) -> Array:
        return be.xp.maximum(a, b)

    def minimum(be, a: Array, b: Array) -> Array:
        return be.xp.minimum(a, b)

    def where(be, condition: Array, a: Array, b: Array) -> Array:
        return be.xp.where(condition, a, b)

    # Reductions ----------------------------------------------------------------------------------

    def sum(be, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if x.dtype in HALF_PRECISION:
            return be.xp.sum(x, axis, FLOAT32, keepdims=keepdims).astype(x.dtype)
        return be.xp.sum(x, axis, INT64 if x.dtype.kind in "biu" else None, keepdims=keepdims)

    def prod(be, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if x.dtype in HALF_PRECISION:
            return be.xp.prod(x, axis, FLOAT32, keepdims=keepdims).astype(x.dtype)
        return be.xp.prod(x, axis, INT64 if x.dtype.kind in "biu" else None, keepdims=keepdims)

    def max(be, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return be.xp.max(x, axis, keepdims=keepdims)

    def min(be, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return be.xp.min(x, axis, keepdims=keepdims)

    def argmax(be, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        return be.xp.argmax(x, axis, keepdims=keepdims)

    def argmin(be, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        return be.xp.argmin(x, axis, keepdims=keepdims)

    def cumsum(be, x: Array, axis: int) -> Array:
        if x.dtype in HALF_PRECISION:
            return be.xp.cumsum(x, axis, FLOAT32).astype(x.dtype)
        return be.xp.cumsum(x, axis, INT64 if x.dtype.kind in "biu" else None)

    def cumprod(be, x: Array, axis: int) -> Array:
        if x.dtype in HALF_PRECISION:
            return be.xp.cumprod(x, axis, FLOAT32).astype(x.dtype)
        return be.xp.cumprod(x, axis, INT64 if x.dtype.kind in "biu" else None)

    def argsort(be, x: Array, axis: int) -> Array:
        if x.dtype in HALF_PRECISION:  # NumPy's order of bfloat16 does not know NaN
            x = x.astype(FLOAT32)
        return be.xp.argsort(x, axis, kind="stable")

    # Linear algebra ------------------------------------------------------------------------------

    def matmul(be, a: Array, b: Array) -> Array:
        if a.dtype in HALF_PRECISION:
            return be.xp.matmul(a.astype(FLOAT32), b.astype(FLOAT32)).astype(a.dtype)
        return be.xp.matmul(a, b)

    # Shape ---------------------------------------------------------------------------------------

    def reshape(be, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    def permute(be, x: Array, axes: Shape) -> Array:
        return x.transpose(axes)

    def broadcast_to(be, x: Array, shape: Shape) -> Array:
        new = len(shape) - x.ndim
        if new >= 0 and tuple(shape) == (1,) * new + x.shape:
            # Nothing is repeated: a view that can be written, unlike NumPy's.
            return x[(None,) * new + (...,)]
        return be.xp.broadcast_to(x, shape)

    def diagonal(be, x: Array, offset: int) -> Array:
        """A view."""
        return be.xp.diagonal(x, offset, x.ndim - 2, x.ndim - 1)

    def sliding_window(be, x: Array, axis: int, size: int, step: int) -> Array:
        """A view."""
        count = (x.shape[axis] - size) // step + 1
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :], size)
        stride = x.strides[axis]
        strides = (*x.strides[:axis], stride * step, *x.strides[axis + 1 :], stride)
        return be.xp.lib.stride_tricks.as_strided(x, shape, strides)

    def concatenate(be, arrays: list[Array], axis: int) -> Array:
        return be.xp.concatenate(arrays, axis)

    # Indexing ------------------------------------------------------------------------------------

    def getitem(be, x: Array, index: Index) -> Array:
        return x[index]

    def assign(be, x: Array, index: Index, value: Any) -> Array:
        x[index] = value
        return x

    def index_add(be, x: Array, index: Index, value: Array) -> Array:
        be.xp.add.at(x, index, value)
        return x

    def take_along(be, x: Array, index: Array, axis: int) -> Array:
        return x[be._along(index, axis)]

    def put_along(be, x: Array, index: Array, value: Array, axis: int, add: bool) -> Array:
        where = be._along(index, axis)
        value = value[tuple(map(slice, index.shape))]
        if add and index.shape[axis] == 1:  # no place comes twice: add.at, slower, is not needed
            return be.assign(x, where, x[where] + value)
        return be.index_add(x, where, value) if add else be.assign(x, where, value)

    def _along(be, index: Array, axis: int) -> Index:
        """The full index whose `axis` is `index` and whose other axes are their own positions."""
        n = index.ndim
        grid: list[Array] = [
            be.xp.arange(size).reshape((-1,) + (1,) * (n - 1 - i))
            for i, size in enumerate(index.shape)
        ]
        grid[axis] = index
        return tuple(grid)
