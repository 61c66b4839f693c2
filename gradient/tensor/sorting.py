"""Sorting, quantiles, counting and searches in sorted tensors: methods of Tensor."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.promotion import cast
from gradient.autograd.variable import Number, Variable, wrap
from gradient.dtypes import float32, int32, int64, result_type
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError, sentence
from gradient.ops import comparison, index, reduce
from gradient.tensor.arguments import (
    all_samples,
    axis_of,
    flag_of,
    int_of,
    number_of,
    size_argument,
    tensor_of,
)
from gradient.tensor.creation import zeros
from gradient.tensor.reductions import Reductions, ValuesAndIndices, returned
from gradient.tensor.views import in_order, without_base

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

INTERPOLATIONS: dict[str, Any] = {
    "linear": lambda at: at,
    "lower": lambda at: at.floor(),
    "higher": lambda at: at.ceil(),
    "nearest": lambda at: at.round(),
    "midpoint": lambda at: (at.floor() + at.ceil()) / 2,
}
"""The position between two elements that `quantile` uses, from the exact position."""


class Sorting(Reductions):
    """sort and similar methods; equal elements keep their order."""

    __slots__ = ()

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
        """Return the int64 indices that sort self along `dim` (always stable)."""
        axis = axis_of(dim, self.ndim)
        flag_of("argsort", "descending", descending), flag_of("argsort", "stable", stable)
        if not self.ndim:
            return without_base(reduce.argsort(self.reshape(1), axis=0).reshape(()))
        if not descending:
            return reduce.argsort(self, axis=axis)
        # Reversed twice, so that equal elements keep their order.
        order = reduce.argsort(self.detach().flip(axis), axis=axis).flip(axis)
        return self.array.shape[axis] - 1 - order

    def sort(
        self, dim: int = -1, descending: bool = False, stable: bool | None = False
    ) -> ValuesAndIndices:
        """Return (values, indices), sorted along `dim` (always stable)."""
        order = self.argsort(dim, descending, False if stable is None else stable)
        if not self.ndim:
            return returned["sort"](self.clone(), order)
        axis = axis_of(dim, self.ndim)
        return returned["sort"](index.take_along(self, index=order.array, axis=axis), order)

    def topk(
        self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> ValuesAndIndices:
        """Return (values, indices) of the k largest (or smallest) along `dim`, in order."""
        if largest is not True:
            flag_of("topk", "largest", largest)
        if sorted is not True:
            flag_of("topk", "sorted", sorted)
        axis = axis_of(dim, self.ndim)
        size = self.array.shape[axis] if self.ndim else 1
        if not 0 <= int_of("topk", "k", k) <= size:
            raise ArgumentError(f"topk: expected 0 <= k <= {size} (the size of dim {dim}), got {k}")
        if not self.ndim:
            return returned["topk"](*self.sort(dim))
        order = reduce.topk(self, k=k, axis=axis, largest=largest)
        return returned["topk"](index.take_along(self, index=order.array, axis=axis), order)

    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
        """Return (value, index) of the k-th smallest element along `dim`, k from 1. Equal elements
        are ordered by index; PyTorch may return another of their indices."""
        if keepdim is not False:
            flag_of("kthvalue", "keepdim", keepdim)
        axis = axis_of(dim, self.ndim)
        size = self.array.shape[axis] if self.ndim else 1
        if not size:
            got = tuple(self.array.shape)
            raise IndexOutOfRange(sentence("kthvalue", "a dimension that is not empty", got))
        if not 1 <= int_of("kthvalue", "k", k) <= size:
            raise ArgumentError(
                f"kthvalue: expected 1 <= k <= {size} (the size of dim {dim}), got {k}"
            )
        both = self.sort(dim)
        if not self.ndim:
            return returned["kthvalue"](*both)
        picked = [t.narrow(axis, k - 1, 1) for t in both]
        picked = picked if keepdim else [t.squeeze(axis) for t in picked]
        return returned["kthvalue"](*(in_order(without_base(t)) for t in picked))

    @overload
    def median(self) -> Tensor: ...
    @overload
    def median(self, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    def median(self, dim: int | None = None, keepdim: bool = False) -> Tensor | ValuesAndIndices:
        """Return the lower median of all elements, or (values, indices) along `dim`; NaN if there
        is a NaN."""
        if keepdim is not False:
            flag_of("median", "keepdim", keepdim)
        if dim is None:
            return reduce.median(self) if self.numel() else (self.sum() / 0).to(self.dtype)
        axis = axis_of(dim, self.ndim)  # refuses several
        self._filled("median", dim)
        size = self.array.shape[axis] if self.ndim else 1
        middle = self.kthvalue((size + 1) // 2, dim, keepdim)
        if not self.dtype.is_floating_point:
            return returned["median"](*middle)
        first = self.max(dim, keepdim)  # the first NaN, if there is one
        spoilt = comparison.isnan(first.values).array
        return returned["median"](
            *(comparison.where(b, a, condition=spoilt) for a, b in zip(middle, first, strict=True))
        )

    @autocasts("float32_on_cpu")
    def quantile(
        self,
        q: float | Tensor,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Tensor:
        """Return the q-quantiles along `dim`, or of all elements; q is a number in [0, 1] or a 1-D
        tensor.

        `interpolation` between two elements: "linear", "lower", "higher", "nearest" or "midpoint".
        The result is NaN if there is a NaN.
        """
        if keepdim is not False:
            flag_of("quantile", "keepdim", keepdim)
        if interpolation not in INTERPOLATIONS:
            raise ArgumentError(
                f"quantile: expected interpolation one of {', '.join(INTERPOLATIONS)}, got "
                f"{interpolation!r}"
            )
        x = self.reshape(-1) if dim is None or not self.ndim else self.movedim(dim, -1)
        one = isinstance(q, Real)
        points = self.new_tensor(q) if one else tensor_of("quantile", q)
        if not self.dtype.is_floating_point or points.dtype is not self.dtype:
            raise DTypeError(
                "quantile: expected floating-point input and q of one dtype, got "
                f"{self.dtype} and {points.dtype}"
            )
        n = x.shape[-1]
        known = all_samples(points.detach())
        outside = not 0 <= q <= 1 if one else bool(((known < 0) | (known > 1)).any())
        if not self.numel() or points.ndim > 1 or outside:
            raise ArgumentError(
                "quantile: expected elements, and q a number or a 1-D tensor of numbers from 0 to "
                f"1, got shape {tuple(self.shape)} and q {q!r}"
            )
        at = points.reshape(-1) * (n - 1)
        at = INTERPOLATIONS[interpolation](at)
        low, high = at.detach().floor(), at.detach().ceil().long()
        x = x.sort(-1).values
        below, above = (x.index_select(-1, i) for i in (low.long(), high))
        between = interpolation in ("linear", "midpoint")
        found = below.lerp(above, at - low) if between else below
        last = x[..., -1:]  # NaN is sorted last
        found = comparison.where(last, found, condition=comparison.isnan(last).array)
        found = found.movedim(-1, 0)
        if keepdim:
            size = [1] * self.ndim if dim is None else list(self.shape)
            if dim is not None and self.ndim:
                size[dim] = 1
            found = found.reshape(found.shape[0], *size)
        return without_base(found if points.ndim else found.squeeze(0))

    def bincount(self, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
        """Count each int in a 1-D tensor of non-negative ints; or sum its `weights`."""
        backend, array = self.backend, self.array
        if array.dtype.kind not in "iu":
            raise DTypeError(sentence("bincount", "ints", self.dtype))
        size_argument("bincount", "minlength", minlength)
        if weights is not None and tensor_of("bincount", weights).array.shape != array.shape:
            expected = f"weights of the input's shape {tuple(array.shape)}"
            raise ShapeError(sentence("bincount", expected, tuple(weights.array.shape)))
        if len(array.shape) != 1 or self._below_zero():
            raise ArgumentError(
                "bincount: expected a 1-D tensor of non-negative ints, got "
                f"shape {tuple(array.shape)} of {self.dtype}"
            )
        if weights is None:
            value = None
        else:  # integers are summed in float64, as in PyTorch
            value = weights.array if weights.dtype is float32 else weights.double().array
        top = int(self.max().item()) + 1 if array.shape[0] else 0
        dtype = int64 if value is None else value.dtype
        counts = zeros(max(top, minlength), dtype=dtype, device=backend.device).array
        return wrap(backend.bincount(counts, array, value), backend)

    def _below_zero(self) -> bool:
        return bool(self.array.shape[0] and self.min().item() < 0)

    @overload
    def unique(
        self,
        sorted: bool = True,
        return_inverse: Literal[False] = False,
        return_counts: Literal[False] = False,
        dim: int | None = None,
    ) -> Tensor: ...
    @overload
    def unique(
        self,
        sorted: bool,
        return_inverse: Literal[True],
        return_counts: bool = False,
        dim: int | None = None,
    ) -> tuple[Tensor, ...]: ...
    @overload
    def unique(
        self,
        sorted: bool = True,
        *,
        return_inverse: Literal[True],
        return_counts: bool = False,
        dim: int | None = None,
    ) -> tuple[Tensor, ...]: ...
    @overload
    def unique(
        self,
        sorted: bool = True,
        return_inverse: bool = False,
        *,
        return_counts: Literal[True],
        dim: int | None = None,
    ) -> tuple[Tensor, ...]: ...
    def unique(
        self,
        sorted: bool = True,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the distinct elements (or slices of `dim`), ascending; optionally with inverse
        indices and counts. It is computed on the CPU."""
        flag_of("unique", "sorted", sorted)
        flag_of("unique", "return_inverse", return_inverse)
        flag_of("unique", "return_counts", return_counts)
        backend = self.backend
        axis = None if dim is None else axis_of(dim, self.ndim)
        host = backend.to_numpy(self.array)
        narrow = host.dtype.kind == "V"
        found = np.unique(
            host.astype(np.float32) if narrow else host,
            return_inverse=True,
            return_counts=True,
            axis=axis,
            equal_nan=False,
        )
        values, inverse, counts = (wrap(backend.asarray(a), backend) for a in found)
        values = values.to(self.dtype)
        inverse = without_base(inverse.reshape(self.array.shape if axis is None else -1))
        result = [values] + [inverse] * return_inverse + [counts] * return_counts
        return result[0] if len(result) == 1 else tuple(result)

    def unique_consecutive(
        self,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the elements (or slices of `dim`) that differ from the one before; optionally with
        inverse indices and counts."""
        flag_of("unique_consecutive", "return_inverse", return_inverse)
        flag_of("unique_consecutive", "return_counts", return_counts)
        x = self.detach()
        axis = 0 if dim is None else axis_of(dim, self.ndim)
        x = x.reshape(-1) if dim is None else x.movedim(axis, 0)
        n = x.shape[0]
        repeats = (x[1:] == x[:-1]).reshape(max(n - 1, 0), math.prod(x.shape[1:])).all(1)
        host = self.backend.to_numpy(repeats.array)
        starts = np.concatenate([np.ones(min(n, 1), bool), ~host])
        first = self.backend.asarray(np.flatnonzero(starts))
        found = wrap(self.backend.getitem(x.array, (first,)), self.backend)
        result = [found if dim is None else without_base(found.movedim(0, axis))]
        if return_inverse:
            places = wrap(self.backend.asarray(starts.cumsum() - 1), self.backend)
            result.append(without_base(places.reshape(self.shape)) if dim is None else places)
        if return_counts:
            ends = np.append(np.flatnonzero(starts), n)
            result.append(wrap(self.backend.asarray(np.diff(ends)), self.backend))
        return result[0] if len(result) == 1 else tuple(result)

    def searchsorted(
        self,
        values: Tensor | Number,
        *,
        out_int32: bool = False,
        right: bool = False,
        side: str | None = None,
        sorter: Tensor | None = None,
    ) -> Tensor:
        """Return the indices at which to insert `values` in this tensor, which is sorted along its
        last dimension.

        A value goes before equal elements, with `right` (or `side="right"`) after them; NaN goes
        last. If the tensor is not sorted, `sorter` has the indices that sort it.
        """
        if side not in (None, "left", "right"):
            raise ArgumentError(f"searchsorted: expected side 'left' or 'right', got {side!r}")
        if right and side == "left":
            raise ArgumentError(sentence("searchsorted", "right or side='left'", "both"))
        if not isinstance(values, Variable):
            number_of("searchsorted", "values", values)
        size = tuple(getattr(values, "shape", ()))
        own_size = tuple(self.array.shape)
        if not own_size or (self.ndim > 1 and (not size or own_size[:-1] != size[:-1])):
            raise ShapeError(
                "searchsorted: expected a 1-D tensor, or one whose leading dimensions are those of "
                f"values, got {own_size} and {size}"
            )
        own = self.detach() if sorter is None else self._sorted_by(sorter)
        dtype, backend = result_type(own, values), self.backend
        if isinstance(values, Variable):
            sought = values.detach().to(dtype).array
        else:
            sought = backend.full((), cast(backend, values, dtype), dtype.numpy)
        rows = own.to(dtype).array
        found = wrap(backend.searchsorted(rows, sought, right or side == "right"), backend)
        return found.to(dtype=int32) if out_int32 else found

    def _sorted_by(self, sorter: Tensor) -> Tensor:
        if tuple(tensor_of("searchsorted", sorter).shape) != tuple(self.array.shape):
            expected = f"a sorter of shape {tuple(self.array.shape)}"
            raise ShapeError(sentence("searchsorted", expected, tuple(sorter.shape)))
        return self.detach().gather(-1, sorter)
