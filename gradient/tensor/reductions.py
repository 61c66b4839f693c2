"""Reductions, sorting and searching: methods of Tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from gradient.autograd.variable import wrap
from gradient.dtypes import dtype_of, float32, int64, promote_types, uint8
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.ops import comparison, elementwise, fused, index, reduce
from gradient.tensor.arguments import (
    axes_of,
    axis_of,
    flag_of,
    int_of,
    number_of,
    size_argument,
    tensor_of,
)
from gradient.tensor.arithmetic import Arithmetic, floating
from gradient.tensor.packed import refuse
from gradient.tensor.views import unlinked

if TYPE_CHECKING:
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor

Dim = int | Sequence[int] | None


INTERPOLATIONS: dict[str, Any] = {
    "linear": lambda at: at,
    "lower": lambda at: at.floor(),
    "higher": lambda at: at.ceil(),
    "nearest": lambda at: at.round(),
    "midpoint": lambda at: (at.floor() + at.ceil()) / 2,
}
"""Which place between two elements `quantile` takes for the exact one."""


class ValuesAndIndices(NamedTuple):
    """What `max(dim)`, `sort`, `topk` and their like return."""

    values: Tensor
    indices: Tensor


class Reductions(Arithmetic):
    """Methods that reduce dimensions; `dim` is None (all), an int or several."""

    __slots__ = ()

    def sum(
        self, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The sum; integers and bools give int64."""
        if keepdim is not False:
            flag_of("sum", "keepdim", keepdim)
        if dtype is None:
            axis = None if dim is None else axes_of(dim, self.ndim)
            return reduce.sum(self, axis=axis, keepdims=keepdim)
        return self.to(dtype=dtype).sum(dim, keepdim).to(dtype=dtype)

    def mean(
        self, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The mean, of floating-point tensors."""
        if keepdim is not False:
            flag_of("mean", "keepdim", keepdim)
        x = self if dtype is None else self.to(dtype=dtype)
        if not x.dtype.is_floating_point:
            raise DTypeError(
                f"mean: expected a floating-point dtype, got {x.dtype}; call .float() first"
            )
        return reduce.mean(x, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def prod(
        self, dim: int | None = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The product."""
        if keepdim is not False:
            flag_of("prod", "keepdim", keepdim)
        if dim is not None and not isinstance(dim, int):
            raise TypeMismatch(sentence("prod", "an int as dim", repr(dim)))
        if dtype is None:
            return reduce.prod(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)
        return self.to(dtype=dtype).prod(dim, keepdim).to(dtype=dtype)

    def var(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Tensor:
        """The variance with `correction` degrees of freedom taken off (1; 0 if not `unbiased`)."""
        if keepdim is not False:
            flag_of("var", "keepdim", keepdim)
        axis, off = self._spread("var", dim, unbiased, correction)
        return reduce.var(self, axis=axis, correction=off, keepdims=keepdim)

    def std(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Tensor:
        """The square root of `var`; the gradient is 0 where all elements are equal."""
        if keepdim is not False:
            flag_of("std", "keepdim", keepdim)
        axis, off = self._spread("std", dim, unbiased, correction)
        return reduce.std(self, axis=axis, correction=off, keepdims=keepdim)

    def _spread(self, caller: str, dim: Dim, unbiased: bool, correction: Any) -> tuple[Any, Any]:
        """The axis of a variance, and the degrees of freedom taken off."""
        if isinstance(dim, bool):  # var(unbiased)
            unbiased = dim
            dim = None
        unbiased = flag_of(caller, "unbiased", unbiased)
        floating(caller, self)
        off = int(unbiased) if correction is None else number_of(caller, "correction", correction)
        return axes_of(dim, self.ndim), off

    def norm(
        self,
        p: float | str | None = "fro",
        dim: Dim = None,
        keepdim: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Tensor:
        """The p-norm of the elements: p a number, inf, -inf or "fro" (2)."""
        if keepdim is not False:
            flag_of("norm", "keepdim", keepdim)
        if isinstance(p, str) and p != "fro":
            raise ArgumentError(sentence("norm", "p a number, inf, -inf or 'fro'", repr(p)))
        p = 2 if p is None or isinstance(p, str) else number_of("norm", "p", p)
        refuse("norm", self)
        wide = None if dtype is None else dtype_of(dtype)
        floating("norm", self)
        if wide is not None:
            if wide.is_floating_point and promote_types(self.dtype, wide) != wide:
                expected = f"a dtype that holds all numbers of {self.dtype}"
                raise DTypeError(sentence("norm", expected, wide))
            return self.to(dtype=wide).norm(p, dim, keepdim)
        if self.dtype.itemsize < 4:  # 16 bits are for storage: the powers need more
            return self.to(float32).norm(p, dim, keepdim).to(self.dtype)
        axis = axes_of(dim, self.ndim)
        if p == 2:
            squares = reduce.sum(self * self, axis=axis, keepdims=keepdim)
            return _root(squares, elementwise.sqrt)
        size = elementwise.abs(self)
        if p < 0:
            self._filled("norm", dim)
        if p in (math.inf, -math.inf):
            self._filled("norm", dim)
            extreme = reduce.amax if p > 0 else reduce.amin
            return extreme(size, axis=axis, keepdims=keepdim)
        if p == 0:
            ones = elementwise.sign(size.masked_fill(comparison.isnan(self), 1.0))
            return reduce.sum(ones, axis=axis, keepdims=keepdim)
        if p == 1:
            return reduce.sum(size, axis=axis, keepdims=keepdim)
        powers = size**p
        if p < 1 and self.node is not None:  # the slope at 0 is infinite: 0, as PyTorch has it
            zero = comparison.eq(self, 0).array
            rest = elementwise.where(1.0, size, condition=zero) ** p
            powers = elementwise.where(0.0 if p > 0 else math.inf, rest, condition=zero)
        total = reduce.sum(powers, axis=axis, keepdims=keepdim)
        return _root(total, lambda x: x ** (1 / p), 0.0 if p > 0 else math.inf)

    def logsumexp(self, dim: Dim, keepdim: bool = False) -> Tensor:
        """log sum e^x"""
        if keepdim is not False:
            flag_of("logsumexp", "keepdim", keepdim)
        if dim is None:
            raise TypeMismatch(sentence("logsumexp", "an int or a tuple of ints as dim", "None"))
        return reduce.logsumexp(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def softmax(self, dim: int, dtype: DTypeLike | None = None) -> Tensor:
        """e^x / sum e^x along `dim`."""
        x = self if dtype is None else self.to(dtype=dtype)
        if not x.ndim:
            return unlinked(fused.softmax(x.reshape(1), axis=axis_of(dim, 1)).reshape(()))
        return fused.softmax(x, axis=axis_of(dim, x.ndim))

    def log_softmax(self, dim: int, dtype: DTypeLike | None = None) -> Tensor:
        """log softmax along `dim`."""
        x = self if dtype is None else self.to(dtype=dtype)
        if not x.ndim:
            return unlinked(fused.log_softmax(x.reshape(1), axis=axis_of(dim, 1)).reshape(()))
        return fused.log_softmax(x, axis=axis_of(dim, x.ndim))

    def amax(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """The maximum; ties share its gradient."""
        if keepdim is not False:
            flag_of("amax", "keepdim", keepdim)
        return reduce.amax(self, axis=self._filled("amax", dim), keepdims=keepdim)

    def amin(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """The minimum; ties share its gradient."""
        if keepdim is not False:
            flag_of("amin", "keepdim", keepdim)
        return reduce.amin(self, axis=self._filled("amin", dim), keepdims=keepdim)

    def _filled(self, caller: str, dim: Dim) -> Any:
        axis = axes_of(dim, self.ndim)
        if reduce.count(self.array.shape, axis) == 0:
            raise IndexOutOfRange(
                f"{caller}(): expected a reduction over at least one element, got shape "
                f"{tuple(self.array.shape)} with dim {dim}; give a dim whose size is not 0"
            )
        return axis

    @overload
    def max(self) -> Tensor: ...
    @overload
    def max(self, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    @overload
    def max(self, dim: Tensor) -> Tensor: ...
    @overload
    def max(self, *, other: Tensor) -> Tensor: ...
    def max(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None
    ) -> Tensor | ValuesAndIndices:
        """The maximum of all, (values, indices) along `dim`, or the larger of two tensors."""
        if keepdim is not False:
            flag_of("max", "keepdim", keepdim)
        dim = dim if other is None else other
        if dim is None:
            self._filled("max", None)
            return reduce.max(self)
        if not isinstance(dim, int):
            return elementwise.maximum(tensor_of("max", self), tensor_of("max", dim))
        return self._picked("max", reduce.argmax, dim, keepdim)

    @overload
    def min(self) -> Tensor: ...
    @overload
    def min(self, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    @overload
    def min(self, dim: Tensor) -> Tensor: ...
    @overload
    def min(self, *, other: Tensor) -> Tensor: ...
    def min(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None
    ) -> Tensor | ValuesAndIndices:
        """The minimum of all, (values, indices) along `dim`, or the smaller of two tensors."""
        if keepdim is not False:
            flag_of("min", "keepdim", keepdim)
        dim = dim if other is None else other
        if dim is None:
            self._filled("min", None)
            return reduce.min(self)
        if not isinstance(dim, int):
            return elementwise.minimum(tensor_of("min", self), tensor_of("min", dim))
        return self._picked("min", reduce.argmin, dim, keepdim)

    def _picked(self, caller: str, choose: Any, dim: int, keepdim: bool) -> ValuesAndIndices:
        axis = self._filled(caller, dim)
        if axis is None:
            return ValuesAndIndices(self.clone(), choose(self))
        where = choose(self, axis=axis, keepdims=True)
        values = index.take_along(self, index=where.array, axis=axis)
        if keepdim:
            return ValuesAndIndices(values, where)
        return ValuesAndIndices(unlinked(values.squeeze(axis)), unlinked(where.squeeze(axis)))

    def aminmax(self, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        """The minimum and the maximum along `dim`, or of all elements."""
        return self.amin(dim, keepdim), self.amax(dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The int64 index of the (first) maximum, of the flattened tensor if `dim` is None."""
        if keepdim is not False:
            flag_of("argmax", "keepdim", keepdim)
        if dim is not None:
            axis_of(dim, self.ndim)  # one, not several
        return reduce.argmax(self, axis=self._filled("argmax", dim), keepdims=keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The int64 index of the (first) minimum."""
        if keepdim is not False:
            flag_of("argmin", "keepdim", keepdim)
        if dim is not None:
            axis_of(dim, self.ndim)
        return reduce.argmin(self, axis=self._filled("argmin", dim), keepdims=keepdim)

    def all(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Whether no element is zero."""
        if keepdim is not False:
            flag_of("all", "keepdim", keepdim)
        if isinstance(dim, (list, tuple)) and not dim:
            return self._nonzero()  # over no dimension: each element by itself
        return reduce.all(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def any(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Whether some element is not zero."""
        if keepdim is not False:
            flag_of("any", "keepdim", keepdim)
        if isinstance(dim, (list, tuple)) and not dim:
            return self._nonzero()
        return reduce.any(self, axis=axes_of(dim, self.ndim), keepdims=keepdim)

    def _nonzero(self) -> Any:
        found = comparison.ne(self, 0)
        return found.to(uint8) if self.dtype is uint8 else found

    def count_nonzero(self, dim: Dim = None) -> Tensor:
        """How many elements are not zero, along `dim` or of all."""
        return reduce.sum(self != 0, axis=axes_of(dim, self.ndim))

    def cumsum(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """The running sum along `dim`."""
        if dtype is not None:
            return self.to(dtype=dtype).cumsum(dim).to(dtype=dtype)
        axis = axis_of(dim, self.ndim)
        if not self.ndim:
            return unlinked(self.reshape(1).cumsum(0).reshape(()))
        return reduce.cumsum(self, axis=axis)

    def cumprod(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """The running product along `dim`."""
        if dtype is not None:
            return self.to(dtype=dtype).cumprod(dim).to(dtype=dtype)
        axis = axis_of(dim, self.ndim)
        if not self.ndim:
            return unlinked(self.reshape(1).cumprod(0).reshape(()))
        return reduce.cumprod(self, axis=axis)

    # Sorting --------------------------------------------------------------------------------------

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
        """The int64 indices that sort along `dim` (always stable)."""
        axis = axis_of(dim, self.ndim)
        flag_of("argsort", "descending", descending), flag_of("argsort", "stable", stable)
        if not self.ndim:
            return unlinked(reduce.argsort(self.reshape(1), axis=0).reshape(()))
        if not descending:
            return reduce.argsort(self, axis=axis)
        # Reversed twice, so that equal elements keep their order.
        order = reduce.argsort(self.detach().flip(axis), axis=axis).flip(axis)
        return self.array.shape[axis] - 1 - order

    def sort(
        self, dim: int = -1, descending: bool = False, stable: bool | None = False
    ) -> ValuesAndIndices:
        """(values, indices) sorted along `dim` (always stable)."""
        order = self.argsort(dim, descending, False if stable is None else stable)
        if not self.ndim:
            return ValuesAndIndices(self.clone(), order)
        axis = axis_of(dim, self.ndim)
        return ValuesAndIndices(index.take_along(self, index=order.array, axis=axis), order)

    def topk(
        self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> ValuesAndIndices:
        """(values, indices) of the k largest (or smallest) along `dim`, in order."""
        if largest is not True:
            flag_of("topk", "largest", largest)
        if sorted is not True:
            flag_of("topk", "sorted", sorted)
        axis = axis_of(dim, self.ndim)
        size = self.array.shape[axis] if self.ndim else 1
        if not 0 <= int_of("topk", "k", k) <= size:
            raise ArgumentError(f"topk: expected 0 <= k <= {size} (the size of dim {dim}), got {k}")
        if not self.ndim:
            return self.sort(dim)
        order = reduce.topk(self, k=k, axis=axis, largest=largest)
        return ValuesAndIndices(index.take_along(self, index=order.array, axis=axis), order)

    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
        """(value, index) of the k-th smallest, k from 1."""
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
            return both
        picked = [t.narrow(axis, k - 1, 1) for t in both]
        picked = picked if keepdim else [t.squeeze(axis) for t in picked]
        return ValuesAndIndices(*map(unlinked, picked))

    @overload
    def median(self) -> Tensor: ...
    @overload
    def median(self, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    def median(self, dim: int | None = None, keepdim: bool = False) -> Tensor | ValuesAndIndices:
        """The lower median of all, or (value, index) along `dim`; NaN where there is one."""
        if keepdim is not False:
            flag_of("median", "keepdim", keepdim)
        if dim is None:
            return reduce.median(self) if self.numel() else (self.sum() / 0).to(self.dtype)
        axis_of(dim, self.ndim)  # one, not several
        self._filled("median", dim)
        size = self.array.shape[axis_of(dim, self.ndim)] if self.ndim else 1
        middle = self.kthvalue((size + 1) // 2, dim, keepdim)
        if not self.dtype.is_floating_point:
            return middle
        first = self.max(dim, keepdim)  # the first NaN, if there is one
        spoilt = comparison.isnan(first.values).array
        return ValuesAndIndices(
            *(elementwise.where(b, a, condition=spoilt) for a, b in zip(middle, first, strict=True))
        )

    def quantile(
        self,
        q: float | Tensor,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Tensor:
        """The q-quantiles (q a number in [0, 1] or a 1-D tensor) along `dim`, or of all.

        Between two elements: "linear", "lower", "higher", "nearest" or "midpoint". NaN where there
        is one.
        """
        if keepdim is not False:
            flag_of("quantile", "keepdim", keepdim)
        if interpolation not in INTERPOLATIONS:
            raise ArgumentError(
                f"quantile: expected interpolation one of {', '.join(INTERPOLATIONS)}, got "
                f"{interpolation!r}"
            )
        x = self.reshape(-1) if dim is None or not self.ndim else self.movedim(dim, -1)
        points = self.new_tensor(q) if isinstance(q, (int, float)) else tensor_of("quantile", q)
        if not self.dtype.is_floating_point or points.dtype is not self.dtype:
            raise DTypeError(
                "quantile: expected floating-point input and q of one dtype, got "
                f"{self.dtype} and {points.dtype}"
            )
        n = x.shape[-1]
        if not self.numel() or points.ndim > 1 or bool(((points < 0) | (points > 1)).any()):
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
        last = x[..., -1:]  # where NaN sorts to
        found = elementwise.where(last, found, condition=comparison.isnan(last).array)
        found = found.movedim(-1, 0)
        if keepdim:
            size = [1] * self.ndim if dim is None else list(self.shape)
            if dim is not None and self.ndim:
                size[dim] = 1
            found = found.reshape(found.shape[0], *size)
        return unlinked(found if points.ndim else found.squeeze(0))

    def bincount(self, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
        """How often each int occurs in a 1-D tensor of non-negative ints."""
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
            value = backend.ones(array.shape, int64.numpy)
        else:  # integers are summed in float64, as PyTorch does
            value = weights.array if weights.dtype is float32 else weights.double().array
        top = int(self.max().item()) + 1 if array.shape[0] else 0
        zeros = backend.zeros((max(top, minlength),), value.dtype)
        return wrap(backend.index_add(zeros, (array,), value), backend)

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
        """The distinct elements (or slices of `dim`), ascending; on the host."""
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
        inverse = inverse.reshape(self.array.shape if axis is None else -1)
        result = [values] + [inverse] * bool(return_inverse) + [counts] * bool(return_counts)
        return result[0] if len(result) == 1 else tuple(result)


def _root(x: Any, root: Any, at_zero: float = 0.0) -> Any:
    """root(x), with a gradient of 0 where x is 0: a norm has none there (0 / 0 would be nan)."""
    if x.node is None:
        return root(x)
    zero = comparison.eq(x, 0).array
    there = root(elementwise.where(1.0, x, condition=zero))
    return elementwise.where(at_zero, there, condition=zero)
