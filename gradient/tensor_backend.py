"""A backend whose arrays are Tensors: what makes every op differentiable to any order.

Gradient rules and composed definitions use operators and `be` alone. Run on raw arrays they give
numbers; run on this backend they give a graph. The engine uses it with `create_graph=True`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradient.autograd.engine import World
from gradient.autograd.variable import Variable, wrap
from gradient.backends.base import Backend
from gradient.dtypes import DType, float32
from gradient.ops import elementwise, index, linalg, reduce, shape


def raw(x: Any) -> Any:
    """The array of a Tensor; anything else as it is."""
    return x.array if isinstance(x, Variable) else x


def raw_index(key: Any) -> Any:
    return tuple(raw(i) for i in key) if isinstance(key, tuple) else raw(key)


def plain(dtype: Any) -> np.dtype:
    return dtype.numpy if isinstance(dtype, DType) else np.dtype(dtype)


class TensorBackend(Backend):
    """The required methods of `Backend` as ops; all others are inherited, composed."""

    name = "tensor"

    def __init__(be, inner: Backend):
        be.inner, be.device = inner, inner.device

    def _tensor(be, x: Any) -> Any:
        return x if isinstance(x, Variable) else wrap(be.inner.asarray(x), be.inner)

    # Creation: constants of the inner backend --------------------------------------------------

    def asarray(be, value: Any, dtype: Any = None) -> Any:
        if isinstance(value, Variable):
            return value if dtype is None else be.astype(value, dtype)
        return wrap(be.inner.asarray(value, None if dtype is None else plain(dtype)), be.inner)

    def full(be, shape: Any, value: Any, dtype: Any) -> Any:
        return wrap(be.inner.full(shape, value, plain(dtype)), be.inner)

    def arange(be, start: Any, stop: Any, step: Any, dtype: Any) -> Any:
        return wrap(be.inner.arange(start, stop, step, plain(dtype)), be.inner)

    def to_numpy(be, x: Any) -> np.ndarray:
        return be.inner.to_numpy(raw(x))

    def astype(be, x: Any, dtype: Any) -> Any:
        x = be._tensor(x)
        dtype = plain(dtype)
        return x if x.array.dtype == dtype else elementwise.astype(x, dtype=dtype)

    def bitcast(be, x: Any, dtype: Any) -> Any:
        return wrap(be.inner.bitcast(raw(x), plain(dtype)), be.inner)

    def copy(be, x: Any) -> Any:
        return x  # nothing here writes in place

    def detach(be, x: Any) -> Any:
        return wrap(x.array, be.inner) if isinstance(x, Variable) else x

    # Elementwise ----------------------------------------------------------------------------------

    exp = staticmethod(elementwise.exp)
    exp2 = staticmethod(elementwise.exp2)
    expm1 = staticmethod(elementwise.expm1)
    log = staticmethod(elementwise.log)
    log2 = staticmethod(elementwise.log2)
    log10 = staticmethod(elementwise.log10)
    log1p = staticmethod(elementwise.log1p)
    logaddexp = staticmethod(elementwise.logaddexp)
    sqrt = staticmethod(elementwise.sqrt)
    sin = staticmethod(elementwise.sin)
    cos = staticmethod(elementwise.cos)
    tan = staticmethod(elementwise.tan)
    arcsin = staticmethod(elementwise.asin)
    arccos = staticmethod(elementwise.acos)
    arctan = staticmethod(elementwise.atan)
    arctan2 = staticmethod(elementwise.atan2)
    sinh = staticmethod(elementwise.sinh)
    cosh = staticmethod(elementwise.cosh)
    tanh = staticmethod(elementwise.tanh)
    arcsinh = staticmethod(elementwise.asinh)
    arccosh = staticmethod(elementwise.acosh)
    arctanh = staticmethod(elementwise.atanh)
    erf = staticmethod(elementwise.erf)
    erfc = staticmethod(elementwise.erfc)
    sigmoid = staticmethod(elementwise.sigmoid)
    relu = staticmethod(elementwise.relu)
    floor = staticmethod(elementwise.floor)
    ceil = staticmethod(elementwise.ceil)
    trunc = staticmethod(elementwise.trunc)
    round = staticmethod(elementwise.round)
    sign = staticmethod(elementwise.sign)
    abs = staticmethod(elementwise.abs)
    maximum = staticmethod(elementwise.maximum)
    minimum = staticmethod(elementwise.minimum)
    isnan = staticmethod(elementwise.isnan)
    isfinite = staticmethod(elementwise.isfinite)

    def where(be, condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(a, Variable) and not isinstance(b, Variable):
            return wrap(be.inner.where(raw(condition), a, b), be.inner)
        return elementwise.where(a, b, condition=raw(condition))

    # Reductions -----------------------------------------------------------------------------------

    def sum(be, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.sum(be._tensor(x), axis=positive(axis, x), keepdims=keepdims)

    def mean(be, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.mean(x, axis=positive(axis, x), keepdims=keepdims)

    def prod(be, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.prod(x, axis=positive(axis, x), keepdims=keepdims)

    def max(be, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.amax(be._tensor(x), axis=positive(axis, x), keepdims=keepdims)

    def min(be, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.amin(be._tensor(x), axis=positive(axis, x), keepdims=keepdims)

    def argmax(be, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.argmax(x, axis=positive(axis, x), keepdims=keepdims)

    def cumsum(be, x: Any, axis: int) -> Any:
        return reduce.cumsum(be._tensor(x), axis=positive(axis, x))

    def cumprod(be, x: Any, axis: int) -> Any:
        return reduce.cumprod(x, axis=positive(axis, x))

    def argsort(be, x: Any, axis: int) -> Any:
        return reduce.argsort(x, axis=positive(axis, x))

    # Linear algebra and shape --------------------------------------------------------------------

    matmul = staticmethod(linalg.matmul)

    def unpack(be, x: Any, dtype: Any = float32) -> Any:
        return wrap(be.inner.unpack(raw(x), plain(dtype)), be.inner)

    def quantized_matmul(be, x: Any, weight: Any) -> Any:
        return linalg.quantized_matmul(x, weight=raw(weight))

    def quantized_matmul_grad(be, g: Any, weight: Any) -> Any:
        return linalg.quantized_matmul_grad(g, weight=raw(weight))

    def quantized_embedding(be, weight: Any, indices: Any) -> Any:
        return wrap(be.inner.quantized_embedding(raw(weight), raw(indices)), be.inner)

    def reshape(be, x: Any, size: Any) -> Any:
        return shape.reshape(be._tensor(x), shape=tuple(size))

    def permute(be, x: Any, axes: Any) -> Any:
        return shape.permute(x, axes=axes)

    def broadcast_to(be, x: Any, size: Any) -> Any:
        return shape.broadcast_to(be._tensor(x), shape=tuple(size))

    def concatenate(be, arrays: Any, axis: int) -> Any:
        tensors = [be._tensor(a) for a in arrays]
        return shape.concatenate(*tensors, axis=positive(axis, tensors[0]))

    def flip(be, x: Any, axis: Any) -> Any:
        return shape.flip(x, axis=tuple(positive(a, x) for a in axis))

    # Indexing: in-place methods give a new Tensor -------------------------------------------------

    def getitem(be, x: Any, key: Any) -> Any:
        return index.getitem(be._tensor(x), index=raw_index(key))

    def assign(be, x: Any, key: Any, value: Any) -> Any:
        return index.setitem(x, value, index=raw_index(key))

    def index_add(be, x: Any, key: Any, value: Any) -> Any:
        return index.index_add(x, value, index=raw_index(key))

    def take_along(be, x: Any, key: Any, axis: int) -> Any:
        return index.take_along(x, index=raw(key), axis=positive(axis, x))

    def put_along(be, x: Any, key: Any, value: Any, axis: int, add: bool) -> Any:
        return index.put_along(x, value, index=raw(key), axis=positive(axis, x), add=add)

    def storage(be, x: Any) -> Any:
        return be.inner.storage(x.array)


def positive(axis: Any, x: Any) -> Any:
    """The axis argument without negative numbers."""
    n = len(x.shape)
    if isinstance(axis, tuple):
        return tuple(a % n for a in axis)
    return axis if axis is None else axis % n


@functools.cache
def world(backend: Backend) -> TensorBackend:
    """The TensorBackend over `backend`."""
    return TensorBackend(backend)


World.of = staticmethod(world)

__all__ = ["TensorBackend", "world"]
