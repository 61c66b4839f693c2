"""A backend whose arrays are Tensors: with it every op is differentiable to any order.

Gradient rules and composed definitions use only operators and `be`. On raw arrays they compute
numbers; on this backend they also record a graph. The engine uses it with `create_graph=True`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.variable import Variable, wrap
from gradient.backends.base import Backend
from gradient.backends.composed.shared import is_complex
from gradient.dtypes import DType, float32
from gradient.ops import (
    activation,
    comparison,
    complex_numbers,
    convolution,
    decompositions,
    elementwise,
    index,
    linalg,
    reduce,
    shape,
    special,
    trigonometry,
)

if TYPE_CHECKING:
    from gradient.tensor import Tensor


def raw(x: Any) -> Any:
    """Return the array of a Tensor; return other values unchanged."""
    return x.array if isinstance(x, Variable) else x


def raw_index(key: Any) -> Any:
    return tuple(raw(i) for i in key) if isinstance(key, tuple) else raw(key)


def as_numpy(dtype: DType | np.dtype) -> np.dtype:
    """Convert a DType to a NumPy dtype; return a NumPy dtype unchanged."""
    return dtype.numpy if isinstance(dtype, DType) else np.dtype(dtype)


def op_method(op: Callable[..., Tensor]) -> Any:
    """Make a method of the backend from an op."""
    return staticmethod(op)


class TensorBackend(Backend):
    """The required methods of `Backend` as ops. The others are inherited: composed definitions."""

    name = "tensor"

    def __init__(self, inner: Backend):
        self.inner, self.device = inner, inner.device

    def _tensor(self, x: Any) -> Any:
        return x if isinstance(x, Variable) else wrap(self.inner.asarray(x), self.inner)

    # Creation: constants of the inner backend --------------------------------------------------

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        if isinstance(value, Variable):
            return value if dtype is None else self.astype(value, dtype)
        return wrap(
            self.inner.asarray(value, None if dtype is None else as_numpy(dtype)), self.inner
        )

    def full(self, shape: Any, value: Any, dtype: Any) -> Any:
        return wrap(self.inner.full(shape, value, as_numpy(dtype)), self.inner)

    def arange(self, start: Any, stop: Any, step: Any, dtype: Any) -> Any:
        return wrap(self.inner.arange(start, stop, step, as_numpy(dtype)), self.inner)

    def to_numpy(self, x: Any) -> np.ndarray:
        return self.inner.to_numpy(raw(x))

    def astype(self, x: Any, dtype: Any) -> Any:
        x = self._tensor(x)
        dtype = as_numpy(dtype)
        return x if x.array.dtype == dtype else elementwise.astype(x, dtype=dtype)

    def bitcast(self, x: Any, dtype: Any) -> Any:
        return wrap(self.inner.bitcast(raw(x), as_numpy(dtype)), self.inner)

    def copy(self, x: Any) -> Any:
        return x  # this backend never writes in place

    def detach(self, x: Any) -> Any:
        return wrap(x.array, self.inner) if isinstance(x, Variable) else x

    # Elementwise ----------------------------------------------------------------------------------

    exp = op_method(elementwise.exp)
    exp2 = op_method(elementwise.exp2)
    expm1 = op_method(elementwise.expm1)
    log = op_method(elementwise.log)
    log2 = op_method(elementwise.log2)
    log10 = op_method(elementwise.log10)
    log1p = op_method(elementwise.log1p)
    logaddexp = op_method(elementwise.logaddexp)
    sqrt = op_method(elementwise.sqrt)
    sin = op_method(trigonometry.sin)
    cos = op_method(trigonometry.cos)
    tan = op_method(trigonometry.tan)
    arcsin = op_method(trigonometry.asin)
    arccos = op_method(trigonometry.acos)
    arctan = op_method(trigonometry.atan)
    arctan2 = op_method(trigonometry.atan2)
    sinh = op_method(trigonometry.sinh)
    cosh = op_method(trigonometry.cosh)
    tanh = op_method(trigonometry.tanh)
    arcsinh = op_method(trigonometry.asinh)
    arccosh = op_method(trigonometry.acosh)
    arctanh = op_method(trigonometry.atanh)
    erf = op_method(elementwise.erf)
    erfc = op_method(elementwise.erfc)
    erfinv = op_method(elementwise.erfinv)
    erfcx = op_method(special.erfcx)
    ndtr = op_method(special.ndtr)
    log_ndtr = op_method(special.log_ndtr)
    ndtri = op_method(special.ndtri)
    lgamma = op_method(special.lgamma)
    digamma = op_method(special.digamma)
    zeta = op_method(special.zeta)
    entr = op_method(special.entr)
    xlogy = op_method(special.xlogy)
    xlog1py = op_method(special.xlog1py)
    sigmoid = op_method(activation.sigmoid)
    sigmoid_grad = op_method(activation.sigmoid_grad)
    relu = op_method(activation.relu)
    floor = op_method(elementwise.floor)
    ceil = op_method(elementwise.ceil)
    trunc = op_method(elementwise.trunc)
    round = op_method(elementwise.round)
    sign = op_method(elementwise.sign)
    abs = op_method(elementwise.abs)
    hypot = op_method(elementwise.hypot)
    copysign = op_method(elementwise.copysign)
    nextafter = op_method(elementwise.nextafter)
    maximum = op_method(comparison.maximum)
    minimum = op_method(comparison.minimum)
    isnan = op_method(comparison.isnan)
    isfinite = op_method(comparison.isfinite)

    view_as_real = op_method(complex_numbers.view_as_real)
    view_as_complex = op_method(complex_numbers.view_as_complex)
    complex = op_method(complex_numbers.from_parts)

    def conj(self, x: Any) -> Any:
        return complex_numbers.conj(x) if is_complex(x) else x

    # Ops that are imported at their first use.

    def fft(self, x: Any, axes: Any, inverse: bool, norm: str) -> Any:
        from gradient.ops import fourier

        return fourier.fft(x, axes=axes, inverse=inverse, norm=norm)

    def rfft(self, x: Any, axis: int, norm: str) -> Any:
        from gradient.ops import fourier

        return fourier.rfft(x, axis=axis, norm=norm)

    def irfft(self, x: Any, axis: int, n: int, norm: str) -> Any:
        from gradient.ops import fourier

        return fourier.irfft(x, axis=axis, n=n, norm=norm)

    def polygamma(self, x: Any, n: int) -> Any:
        return special.polygamma(x, n=n)

    def bessel_i(self, x: Any, order: int = 0) -> Any:
        return special.bessel_i(x, order=order)

    def bessel_ie(self, x: Any, order: int = 0) -> Any:
        return special.bessel_ie(x, order=order)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(a, Variable) and not isinstance(b, Variable):
            return wrap(self.inner.where(raw(condition), a, b), self.inner)
        return comparison.where(a, b, condition=raw(condition))

    # Reductions -----------------------------------------------------------------------------------

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.sum(self._tensor(x), axis=normalized_axis(axis, x), keepdims=keepdims)

    def mean(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.mean(x, axis=normalized_axis(axis, x), keepdims=keepdims)

    def prod(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.prod(x, axis=normalized_axis(axis, x), keepdims=keepdims)

    def max(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.amax(self._tensor(x), axis=normalized_axis(axis, x), keepdims=keepdims)

    def min(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.amin(self._tensor(x), axis=normalized_axis(axis, x), keepdims=keepdims)

    def argmax(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce.argmax(x, axis=normalized_axis(axis, x), keepdims=keepdims)

    def cumsum(self, x: Any, axis: int) -> Any:
        return reduce.cumsum(self._tensor(x), axis=normalized_axis(axis, x))

    def cumprod(self, x: Any, axis: int) -> Any:
        return reduce.cumprod(x, axis=normalized_axis(axis, x))

    def argsort(self, x: Any, axis: int) -> Any:
        return reduce.argsort(self._tensor(x), axis=normalized_axis(axis, x))

    def dropout(self, key: int, offset: int, x: Any, p: float) -> Any:
        blocks = -(-math.prod(x.shape) // 4)
        return activation.dropout(x, key=key, offset=offset, p=p), blocks

    # Linear algebra and shape --------------------------------------------------------------------

    matmul = op_method(linalg.matmul)
    inv = op_method(decompositions.inv)
    solve = op_method(decompositions.solve)

    def solve_triangular(self, a: Any, b: Any, lower: bool) -> Any:
        return decompositions.solve_triangular(a, b, lower=lower)

    cholesky = op_method(decompositions.cholesky)
    lu = op_method(decompositions.lu)
    lu_pivots = op_method(decompositions.lu_pivots)
    logabsdet = op_method(decompositions.logabsdet)
    det = op_method(decompositions.det)
    cofactor = op_method(decompositions.cofactor)
    eigh = op_method(decompositions.eigh)
    svd = op_method(decompositions.svd)
    qr = op_method(decompositions.qr)

    def pinv(self, x: Any, atol: float, rtol: float) -> Any:
        return decompositions.pinv(x, atol=atol, rtol=rtol)

    def unpack(self, x: Any, dtype: Any = float32) -> Any:
        return wrap(self.inner.unpack(raw(x), as_numpy(dtype)), self.inner)

    def quantized_matmul(self, x: Any, weight: Any) -> Any:
        return linalg.quantized_matmul(x, weight=raw(weight))

    def quantized_matmul_grad(self, g: Any, weight: Any) -> Any:
        return linalg.quantized_matmul_grad(g, weight=raw(weight))

    def quantized_embedding(self, weight: Any, indices: Any) -> Any:
        return wrap(self.inner.quantized_embedding(raw(weight), raw(indices)), self.inner)

    def reshape(self, x: Any, size: Any) -> Any:
        return shape.reshape(self._tensor(x), shape=tuple(size))

    def permute(self, x: Any, axes: Any) -> Any:
        return shape.permute(x, axes=axes)

    def broadcast_to(self, x: Any, size: Any) -> Any:
        return shape.broadcast_to(self._tensor(x), shape=tuple(size))

    def concatenate(self, arrays: Any, axis: int) -> Any:
        tensors = [self._tensor(a) for a in arrays]
        return shape.concatenate(*tensors, axis=normalized_axis(axis, tensors[0]))

    def unfold(self, x: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
        return shape.unfold(self._tensor(x), kernel=kernel, stride=stride, dilation=dilation)

    def fold(self, x: Any, size: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
        options = {"kernel": kernel, "stride": stride, "dilation": dilation}
        return shape.fold(self._tensor(x), shape=tuple(size), **options)

    # Convolutions are each other's gradients, so those of any order have the kernels.

    def convolution(self, x: Any, weight: Any, bias: Any, options: Any) -> Any:
        given = (x, weight) if bias is None else (x, weight, bias)
        return convolution.convolution(*map(self._tensor, given), options=options)

    def convolution_input_grad(self, g: Any, weight: Any, size: Any, options: Any) -> Any:
        given = self._tensor(g), self._tensor(weight)
        return convolution.transposed_convolution(*given, shape=tuple(size), options=options)

    def convolution_weight_grad(self, g: Any, x: Any, size: Any, options: Any) -> Any:
        given = self._tensor(g), self._tensor(x)
        return convolution.weight_gradient(*given, shape=tuple(size), options=options)

    def flip(self, x: Any, axis: Any) -> Any:
        return shape.flip(x, axis=tuple(normalized_axis(a, x) for a in axis))

    # Indexing: in-place methods return a new Tensor -----------------------------------------------

    def getitem(self, x: Any, key: Any) -> Any:
        return index.getitem(self._tensor(x), index=raw_index(key))

    def assign(self, x: Any, key: Any, value: Any) -> Any:
        return index.setitem(x, value, index=raw_index(key))

    def index_add(self, x: Any, key: Any, value: Any) -> Any:
        return index.index_add(x, value, index=raw_index(key))

    def take_along(self, x: Any, key: Any, axis: int) -> Any:
        at = normalized_axis(axis, x)
        return index.take_along(self._tensor(x), index=raw(key), axis=at)

    def put_along(self, x: Any, key: Any, value: Any, axis: int, add: bool) -> Any:
        return index.put_along(x, value, index=raw(key), axis=normalized_axis(axis, x), add=add)

    def storage(self, x: Any) -> Any:
        return self.inner.storage(x.array)


def normalized_axis(axis: Any, x: Any) -> Any:
    """Convert negative axes, of an int or a tuple; None stays None."""
    n = len(x.shape)
    if isinstance(axis, tuple):
        return tuple(a % n for a in axis)
    return axis if axis is None else axis % n


def tensor_backend(backend: Backend) -> TensorBackend:
    """Return the backend whose arrays are Tensors of `backend`; one object for each backend. (The
    backend keeps it, as each `vmap` has a backend of its own, which a cache would keep.)"""
    if backend.on_tensors is None:
        backend.on_tensors = TensorBackend(backend)
    made: TensorBackend = backend.on_tensors
    return made


__all__ = ["TensorBackend", "tensor_backend"]
