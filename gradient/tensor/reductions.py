"""Reductions, sorting and searching: methods of Tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from gradient.dtypes import dtype_of
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange
from gradient.ops import elementwise, fused, index, reduce
from gradient.tensor.arguments import axes_of, axis_of

Dim = int | Sequence[int] | None


class ValuesAndIndices(NamedTuple):
    """What `max(dim)`, `sort`, `topk` and their like return."""

    values: Any
    indices: Any


class Reductions:
    """Methods that reduce dimensions; `dim` is None (all), an int or several."""

    __slots__ = ()

    array: Any
    shape: Any
    dtype: Any

    def sum(self, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The sum; integers and bools give int64."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        return reduce.sum(x, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def mean(self, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The mean, of floating-point tensors."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        if not x.dtype.is_floating_point:
            raise DTypeError(
                f"mean: expected a floating-point dtype, got {x.dtype}; call .float() first"
            )
        return reduce.mean(x, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def prod(self, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The product."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        return reduce.prod(x, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def var(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Any:
        """The variance with `correction` degrees of freedom taken off (1; 0 if not `unbiased`)."""
        if isinstance(dim, bool):  # var(unbiased)
            unbiased = dim
            dim = None
        off = (1 if unbiased else 0) if correction is None else correction
        axis = axes_of(dim, self.ndim)
        n = reduce.count(self.array.shape, axis)
        centred = self - reduce.mean(self, axis=axis, keepdims=True)  # type: ignore[operator]
        total = reduce.sum(centred * centred, axis=axis, keepdims=keepdim)
        return total / max(n - off, 0) if n != off else total / 0.0

    def std(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Any:
        """The square root of `var`."""
        return elementwise.sqrt(self.var(dim, unbiased, keepdim, correction=correction))

    def norm(self, p: Any = "fro", dim: Dim = None, keepdim: bool = False) -> Any:
        """The p-norm of the elements: p a number, inf, -inf or "fro" (2)."""
        axis = axes_of(dim, self.ndim)
        size = elementwise.abs(self)
        if p in ("fro", 2):
            squares = reduce.sum(self * self, axis=axis, keepdims=keepdim)  # type: ignore[operator]
            return _root(squares, elementwise.sqrt)
        if p == math.inf:
            return reduce.amax(size, axis=axis, keepdims=keepdim)
        if p == -math.inf:
            return reduce.amin(size, axis=axis, keepdims=keepdim)
        if p == 0:
            return reduce.sum(self != 0, axis=axis, keepdims=keepdim).to(self.dtype)
        if p == 1:
            return reduce.sum(size, axis=axis, keepdims=keepdim)
        return _root(reduce.sum(size**p, axis=axis, keepdims=keepdim), lambda x: x ** (1 / p))

    def logsumexp(self, dim: Dim, keepdim: bool = False) -> Any:
        """log sum e^x"""
        return reduce.logsumexp(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def softmax(self, dim: int, *, dtype: Any = None) -> Any:
        """e^x / sum e^x along `dim`."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        if not x.ndim:
            return x * 0 + 1
        return fused.softmax(x, axis=axis_of(dim, x.ndim))

    def log_softmax(self, dim: int, *, dtype: Any = None) -> Any:
        """log softmax along `dim`."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        if not x.ndim:
            return x * 0
        return fused.log_softmax(x, axis=axis_of(dim, x.ndim))

    def amax(self, dim: Dim = None, keepdim: bool = False) -> Any:
        """The maximum; ties share its gradient."""
        return reduce.amax(self, axis=self._filled("amax", dim), keepdims=keepdim)

    def amin(self, dim: Dim = None, keepdim: bool = False) -> Any:
        """The minimum; ties share its gradient."""
        return reduce.amin(self, axis=self._filled("amin", dim), keepdims=keepdim)

    def _filled(self, caller: str, dim: Dim) -> Any:
        axis = axes_of(dim, self.ndim)
        if reduce.count(self.array.shape, axis) == 0:
            raise IndexOutOfRange(
                f"{caller}(): expected a reduction over at least one element, got shape "
                f"{tuple(self.array.shape)} with dim {dim}; give a dim whose size is not 0"
            )
        return axis

    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The maximum of all, (values, indices) along `dim`, or the larger of two tensors."""
        if dim is None:
            return reduce.amax(self, axis=self._filled("max", None))
        if not isinstance(dim, int):
            return elementwise.maximum(self, dim)
        return self._picked("max", reduce.argmax, dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The minimum of all, (values, indices) along `dim`, or the smaller of two tensors."""
        if dim is None:
            return reduce.amin(self, axis=self._filled("min", None))
        if not isinstance(dim, int):
            return elementwise.minimum(self, dim)
        return self._picked("min", reduce.argmin, dim, keepdim)

    def _picked(self, caller: str, choose: Any, dim: int, keepdim: bool) -> ValuesAndIndices:
        axis = self._filled(caller, dim)
        if axis is None:
            return ValuesAndIndices(self.clone(), choose(self))  # type: ignore[attr-defined]
        where = choose(self, axis=axis, keepdims=True)
        values = index.take_along(self, index=where.array, axis=axis)
        if keepdim:
            return ValuesAndIndices(values, where)
        return ValuesAndIndices(values.squeeze(axis), where.squeeze(axis))

    def aminmax(self, *, dim: int | None = None, keepdim: bool = False) -> tuple[Any, Any]:
        """The minimum and the maximum along `dim`, or of all elements."""
        return self.amin(dim, keepdim), self.amax(dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The int64 index of the (first) maximum, of the flattened tensor if `dim` is None."""
        return reduce.argmax(self, axis=self._filled("argmax", dim), keepdims=keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The int64 index of the (first) minimum."""
        return reduce.argmin(self, axis=self._filled("argmin", dim), keepdims=keepdim)

    def all(self, dim: Dim = None, keepdim: bool = False) -> Any:
        """Whether no element is zero."""
        return reduce.all(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def any(self, dim: Dim = None, keepdim: bool = False) -> Any:
        """Whether some element is not zero."""
        return reduce.any(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def count_nonzero(self, dim: Dim = None) -> Any:
        """How many elements are not zero, along `dim` or of all."""
        return reduce.sum(self != 0, axis=axes_of(dim, self.ndim))

    def cumsum(self, dim: int, *, dtype: Any = None) -> Any:
        """The running sum along `dim`."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        if not x.ndim:
            return x.clone()
        return reduce.cumsum(x, axis=axis_of(dim, x.ndim))

    def cumprod(self, dim: int, *, dtype: Any = None) -> Any:
        """The running product along `dim`."""
        x = self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]
        if not x.ndim:
            return x.clone()
        return reduce.cumprod(x, axis=axis_of(dim, x.ndim))

    # Sorting --------------------------------------------------------------------------------------

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
        """The int64 indices that sort along `dim` (always stable)."""
        axis = axis_of(dim, self.ndim)
        if not self.ndim:
            return reduce.argsort(self.reshape(1), axis=0).reshape(())  # type: ignore[attr-defined]
        if not descending:
            return reduce.argsort(self, axis=axis)
        # Reversed twice, so that equal elements keep their order.
        order = reduce.argsort(self.detach().flip(axis), axis=axis).flip(axis)  # type: ignore[attr-defined]
        return self.array.shape[axis] - 1 - order

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
        """(values, indices) sorted along `dim`."""
        order = self.argsort(dim, descending)
        if not self.ndim:
            return ValuesAndIndices(self.clone(), order)  # type: ignore[attr-defined]
        axis = axis_of(dim, self.ndim)
        return ValuesAndIndices(index.take_along(self, index=order.array, axis=axis), order)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
        """(values, indices) of the k largest (or smallest) along `dim`, in order."""
        axis = axis_of(dim, self.ndim)
        size = self.array.shape[axis] if self.ndim else 1
        if not 0 <= k <= size:
            raise ArgumentError(f"topk: expected 0 <= k <= {size} (the size of dim {dim}), got {k}")
        if not self.ndim:
            return self.sort(dim)
        order = reduce.topk(self, k=k, axis=axis, largest=largest)
        return ValuesAndIndices(index.take_along(self, index=order.array, axis=axis), order)

    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> Any:
        """(value, index) of the k-th smallest, k from 1."""
        values, order = self.sort(dim)
        axis = axis_of(dim, self.ndim)
        if not 1 <= k <= values.shape[axis]:
            raise ArgumentError(
                f"kthvalue: expected 1 <= k <= {values.shape[axis]} (the size of dim {dim}), "
                f"got {k}"
            )
        picked = [t.narrow(axis, k - 1, 1) for t in (values, order)]
        return ValuesAndIndices(*(picked if keepdim else [t.squeeze(axis) for t in picked]))

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The lower median of all, or (value, index) along `dim`."""
        if dim is None:
            flat = self.reshape(-1)  # type: ignore[attr-defined]
            return flat.kthvalue((flat.array.shape[0] + 1) // 2, 0).values
        return self.kthvalue((self.shape[dim] + 1) // 2, dim, keepdim)

    def quantile(self, q: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        """The q-quantiles (q a number in [0, 1] or a 1-D tensor), linearly interpolated."""
        x = self.reshape(-1) if dim is None else self.movedim(dim, -1)  # type: ignore[attr-defined]
        x = x.sort(-1).values
        points = [float(q)] if isinstance(q, (int, float)) else [float(v) for v in q.tolist()]
        parts = []
        for point in points:
            at = point * (x.shape[-1] - 1)
            low = math.floor(at)
            high = min(low + 1, x.shape[-1] - 1)
            parts.append(x[..., low] + (x[..., high] - x[..., low]) * (at - low))
        if keepdim:
            parts = [p.reshape([1] * self.ndim) if dim is None else p.unsqueeze(dim) for p in parts]
        if isinstance(q, (int, float)):
            return parts[0]
        from gradient.tensor.joining import stack

        return stack(parts, 0)

    def bincount(self, weights: Any = None, minlength: int = 0) -> Any:
        """How often each int occurs in a 1-D tensor of non-negative ints."""
        backend, array = self.backend, self.array  # type: ignore[attr-defined]
        top = int(self.max().item()) + 1 if array.shape[0] else 0
        dtype = dtype_of("int64") if weights is None else weights.dtype
        zeros = backend.zeros((max(top, minlength),), dtype.numpy)
        value = backend.ones(array.shape, dtype.numpy) if weights is None else weights.array
        return self._wrap(backend.index_add(zeros, (array,), value), backend)  # type: ignore[attr-defined]

    def unique(
        self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
    ):  # type: ignore[no-untyped-def]
        """The distinct elements, ascending; on the host."""
        import numpy as np

        backend = self.backend  # type: ignore[attr-defined]
        host = backend.to_numpy(self.array)
        found = np.unique(host, return_inverse=True, return_counts=True)
        values, inverse, counts = (self._wrap(backend.asarray(a), backend) for a in found)  # type: ignore[attr-defined]
        inverse = inverse.reshape(self.array.shape)
        result = [values] + [inverse] * return_inverse + [counts] * return_counts
        return result[0] if len(result) == 1 else tuple(result)


def _root(x: Any, root: Any) -> Any:
    """root(x), with a gradient of 0 where x is 0: a norm has none there (0 / 0 would be nan)."""
    if x.node is None:
        return root(x)
    zero = elementwise.eq(x, 0).array
    return elementwise.where(0.0, root(elementwise.where(1.0, x, condition=zero)), condition=zero)
