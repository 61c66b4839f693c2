"""The required methods for NumPy and CuPy, in terms of a module with NumPy's functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.base import Backend
from gradient.backends.composed.complex_numbers import complex_dtype
from gradient.backends.packed import is_packed
from gradient.backends.required import Axis, Index, Shape
from gradient.dtypes import HALF_PRECISION, float32, int64

FLOAT32, INT64 = float32.numpy, int64.numpy

Array = np.ndarray
"""Or CuPy's, which has the same methods."""


class ArrayAPIBackend(Backend[Array]):
    """A backend over `xp`, a module with NumPy's functions and in-place arrays."""

    xp: Any = np
    strided = True

    # Creation and transfer -----------------------------------------------------------------------

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Array:
        return self.xp.asarray(value, dtype)

    def empty(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.xp.empty(shape, dtype)

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        return self.xp.full(shape, value, dtype)

    def zeros(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.xp.zeros(shape, dtype)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        return self.xp.arange(start, stop, step, dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def astype(self, x: Array, dtype: np.dtype) -> Array:
        if x.dtype == dtype:
            return x
        if dtype.char == "B" and x.dtype.char == "d":
            x = x.astype(np.int64)  # numbers beyond uint8 wrap; in C this is undefined
        if x.base is not None and 0 in x.strides and x.size:
            return _in_its_order(x, lambda x: x.astype(dtype, "C"))
        return x.astype(dtype)

    def bitcast(self, x: Array, dtype: np.dtype) -> Array:
        if x.dtype.itemsize != dtype.itemsize:  # needs a last axis without gaps, aligned
            x = self.xp.ascontiguousarray(x)
        return x.view(dtype)

    def copy(self, x: Array) -> Array:
        return self.xp.array(x, order="C")

    def clone(self, x: Array) -> Array:
        if 0 in x.strides and x.size:  # "K" would make such a dimension the innermost
            return _in_its_order(x, self.copy)
        return self.xp.array(x, order="K")

    # Elementwise: NumPy's function if it has one, else the composed default ----------------------

    def exp(self, x: Array) -> Array:
        return self.xp.exp(x)

    def log(self, x: Array) -> Array:
        return self.xp.log(x)

    def sqrt(self, x: Array) -> Array:
        return self.xp.sqrt(x)

    def sin(self, x: Array) -> Array:
        return self.xp.sin(x)

    def cos(self, x: Array) -> Array:
        return self.xp.cos(x)

    def tan(self, x: Array) -> Array:
        return self.xp.tan(x)

    def tanh(self, x: Array) -> Array:
        return self.xp.tanh(x)

    def arctan2(self, y: Array, x: Array) -> Array:
        return self.xp.arctan2(y, x)

    def expm1(self, x: Array) -> Array:
        return self.xp.expm1(x)

    def log1p(self, x: Array) -> Array:
        return self.xp.log1p(x)

    def arcsin(self, x: Array) -> Array:
        return self.xp.arcsin(x)

    def arccos(self, x: Array) -> Array:
        return self.xp.arccos(x)

    def arctan(self, x: Array) -> Array:
        return self.xp.arctan(x)

    def sinh(self, x: Array) -> Array:
        return self.xp.sinh(x)

    def cosh(self, x: Array) -> Array:
        return self.xp.cosh(x)

    def arcsinh(self, x: Array) -> Array:
        return self.xp.arcsinh(x)

    def arccosh(self, x: Array) -> Array:
        return self.xp.arccosh(x)

    def arctanh(self, x: Array) -> Array:
        return self.xp.arctanh(x)

    def log2(self, x: Array) -> Array:
        return self.xp.log2(x)

    def log10(self, x: Array) -> Array:
        return self.xp.log10(x)

    def exp2(self, x: Array) -> Array:
        return self.xp.exp2(x)

    def isfinite(self, x: Array) -> Array:
        return x.isfinite() if is_packed(x) else self.xp.isfinite(x)

    def sign(self, x: Array) -> Array:
        out = self.xp.sign(x)
        if x.dtype.kind in "biu":
            return out
        return self.where(out == out, out, self.zeros((), x.dtype))

    def fmod(self, a: Array, b: Array) -> Array:
        return self.xp.fmod(a, b)

    def floor(self, x: Array) -> Array:
        return self.xp.floor(x)

    def ceil(self, x: Array) -> Array:
        return self.xp.ceil(x)

    def trunc(self, x: Array) -> Array:
        return self.xp.trunc(x)

    def round(self, x: Array) -> Array:
        return self.xp.rint(x)

    def abs(self, x: Array) -> Array:
        return abs(x)  # the operator, because 8-bit floats have it, too

    def maximum(self, a: Array, b: Array) -> Array:
        return self.xp.maximum(a, b)

    def minimum(self, a: Array, b: Array) -> Array:
        return self.xp.minimum(a, b)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self.xp.where(condition, a, b)

    # Complex numbers ------------------------------------------------------------------------------

    def view_as_real(self, x: Array) -> Array:
        """A view. (It is made from `real`, which keeps the strides: a change of dtype needs a
        contiguous last axis.)"""
        real = self.xp.asarray(x).real  # x may be a NumPy scalar
        return self.strided_view(real, (*real.shape, 2), (*real.strides, real.dtype.itemsize))

    def view_as_complex(self, x: Array) -> Array:
        """A view, if the parts of each number are adjacent in memory."""
        width = x.dtype.itemsize
        if x.strides[-1] != width or any(s % (2 * width) for s in x.strides[:-1]):
            x = self.xp.ascontiguousarray(x)
        return x.view(complex_dtype(x.dtype))[..., 0]

    def real(self, x: Array) -> Array:
        return x.real

    def imag(self, x: Array) -> Array:
        return x.imag

    def complex(self, real: Array, imag: Array) -> Array:
        out = self.empty(real.shape, complex_dtype(real.dtype))
        out.real, out.imag = real, imag
        return out

    def conj(self, x: Array) -> Array:
        return self.xp.conjugate(x) if x.dtype.kind == "c" else x

    def fft(self, x: Array, axes: Shape, inverse: bool, norm: str) -> Array:
        transform = self.xp.fft.ifftn if inverse else self.xp.fft.fftn
        return transform(x, None, axes, norm)

    def rfft(self, x: Array, axis: int, norm: str) -> Array:
        return self.xp.fft.rfft(x, None, axis, norm)

    def irfft(self, x: Array, axis: int, n: int, norm: str) -> Array:
        return self.xp.fft.irfft(x, n, axis, norm)

    # Reductions ----------------------------------------------------------------------------------

    def sum(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if x.dtype in HALF_PRECISION:
            return self.xp.sum(x, axis, FLOAT32, keepdims=keepdims).astype(x.dtype)
        return self.xp.sum(x, axis, INT64 if x.dtype.kind in "biu" else None, keepdims=keepdims)

    def prod(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if x.dtype in HALF_PRECISION:
            return self.xp.prod(x, axis, FLOAT32, keepdims=keepdims).astype(x.dtype)
        return self.xp.prod(x, axis, INT64 if x.dtype.kind in "biu" else None, keepdims=keepdims)

    def max(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return self.xp.max(x, axis, keepdims=keepdims)

    def min(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return self.xp.min(x, axis, keepdims=keepdims)

    def argmax(self, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        return self.xp.argmax(x, axis, keepdims=keepdims)

    def argmin(self, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        return self.xp.argmin(x, axis, keepdims=keepdims)

    def cumsum(self, x: Array, axis: int) -> Array:
        if x.dtype in HALF_PRECISION:
            return self.xp.cumsum(x, axis, FLOAT32).astype(x.dtype)
        return self.xp.cumsum(x, axis, INT64 if x.dtype.kind in "biu" else None)

    def cumprod(self, x: Array, axis: int) -> Array:
        if x.dtype in HALF_PRECISION:
            return self.xp.cumprod(x, axis, FLOAT32).astype(x.dtype)
        return self.xp.cumprod(x, axis, INT64 if x.dtype.kind in "biu" else None)

    def argsort(self, x: Array, axis: int) -> Array:
        if x.dtype in HALF_PRECISION:  # NumPy does not sort NaN of bfloat16 to the end
            x = x.astype(FLOAT32)
        return self.xp.argsort(x, axis, kind="stable")

    # Linear algebra ------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        if a.dtype in HALF_PRECISION:
            return self.xp.matmul(a.astype(FLOAT32), b.astype(FLOAT32)).astype(a.dtype)
        return self.xp.matmul(a, b)

    # Shape ---------------------------------------------------------------------------------------

    def reshape(self, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    def permute(self, x: Array, axes: Shape) -> Array:
        return x.transpose(axes)

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        new = len(shape) - x.ndim
        if new >= 0 and tuple(shape) == (1,) * new + x.shape:
            # Nothing is repeated: unlike NumPy's, the view is writable.
            return x[(None,) * new + (...,)]
        return self.xp.broadcast_to(x, shape)

    def diagonal(self, x: Array, offset: int) -> Array:
        """A view."""
        return self.xp.diagonal(x, offset, x.ndim - 2, x.ndim - 1)

    def sliding_window(self, x: Array, axis: int, size: int, step: int) -> Array:
        """A view."""
        count = (x.shape[axis] - size) // step + 1
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :], size)
        stride = x.strides[axis]
        strides = (*x.strides[:axis], stride * step, *x.strides[axis + 1 :], stride)
        return self.strided_view(x, shape, strides)

    def strided_view(self, x: Array, shape: Shape, strides: tuple[int, ...]) -> Array:
        """A view from the first element of x, with strides in bytes."""
        return self.xp.lib.stride_tricks.as_strided(x, shape, strides)

    def as_strided(
        self, x: Array, size: tuple[int, ...], stride: tuple[int, ...], offset: int
    ) -> Array:
        """A view of an array in row-major order; it is read-only if it shows an element twice."""
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if not x.flags.c_contiguous or 0 in size or last >= x.size:
            return super().as_strided(x, size, stride, offset)
        repeated = [n > 1 and step == 0 for n, step in zip(size, stride, strict=True)]
        shape = tuple(1 if again else n for again, n in zip(repeated, size, strict=True))
        steps = tuple(step * x.itemsize for step in stride)
        out = self.strided_view(x.reshape(-1)[offset:], shape, steps)
        return self.xp.broadcast_to(out, size) if any(repeated) else out

    def concatenate(self, arrays: list[Array], axis: int) -> Array:
        return self.xp.concatenate(arrays, axis)

    # Indexing ------------------------------------------------------------------------------------

    getitem: Any = staticmethod(operator.getitem)

    def assign(self, x: Array, index: Index, value: Any) -> Array:
        x[index] = value
        return x

    def index_add(self, x: Array, index: Index, value: Array) -> Array:
        self.xp.add.at(x, index, value)
        return x

    def take_along(self, x: Array, index: Array, axis: int) -> Array:
        return x[self._along(index, axis)]

    def put_along(self, x: Array, index: Array, value: Array, axis: int, add: bool) -> Array:
        where = self._along(index, axis)
        value = value[tuple(map(slice, index.shape))]
        if add and index.shape[axis] == 1:  # no index repeats, so the slower add.at is not needed
            return self.assign(x, where, x[where] + value)
        return self.index_add(x, where, value) if add else self.assign(x, where, value)

    def _along(self, index: Array, axis: int) -> Index:
        """The full index: `index` for `axis`, and the element's own position for other axes."""
        n = index.ndim
        axis %= n or 1
        return tuple(
            [
                index if i == axis else self.xp.arange(size).reshape((-1,) + (1,) * (n - 1 - i))
                for i, size in enumerate(index.shape)
            ]
        )


def _in_its_order(x: Array, copy: Callable[[Array], Array]) -> Array:
    """What `copy`, which gives row-major arrays, makes of x, in the order of x's dimensions."""
    from gradient.backends.memory_order import dimension_order, positions  # rarely needed

    order = dimension_order(x.shape, x.strides)
    return copy(x.transpose(order)).transpose(positions(order))
