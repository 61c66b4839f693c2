"""Gather and scatter along a dimension, with reductions, and writes at indices: methods of
Tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.explain import packed_refused
from gradient.autograd.promotion import refuse_complex
from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import bool_, float32, float64, iinfo, int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.ops import comparison, elementwise, shape
from gradient.ops import index as ops
from gradient.tensor.arguments import (
    axis_of,
    beyond,
    check_index,
    constant,
    fitting,
    flag_of,
    in_range,
    is_empty,
    number_of,
    tensor_of,
    vector_of,
)
from gradient.tensor.arithmetic import Arithmetic, same_dtype
from gradient.tensor.index_keys import index_of, misfit, size_at
from gradient.tensor.joining import broadcast_shapes
from gradient.tensor.overwrite import Put, to_copy
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor

FEW = 32
"""Elements of a tensor for each index, at least, for indices that are sorted to reduce in place
only the slices at these: else it takes less time to copy the tensor."""

REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


class Gathering(Arithmetic):
    """gather, take_along_dim, scatter, scatter_reduce, index_reduce, index_put, put."""

    __slots__ = ()

    def gather(self, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
        """`out[i, j] = self[index[i, j], j]` for dim 0; the index may be smaller elsewhere. Raises
        ArgumentError for `sparse_grad`, as gradients are dense."""
        if sparse_grad is not False and flag_of("gather", "sparse_grad", sparse_grad):
            raise ArgumentError("gather: sparse gradients are not available")
        if is_empty(index):
            axis_of(dim, self.ndim)
            constant("gather", "index", index, self)
            none = self.backend.zeros(index.array.shape, int64.numpy)
            return ops.getitem(self.reshape(-1), index=(none,))
        x, at, axis = self._places("gather", dim, index, self.backend.looks_along)
        try:
            out = ops.take_along(x, index=at.array, axis=axis)
        except IndexError:
            in_range("gather", self.backend, at.array, axis, x.array.shape[axis])
            raise
        size = index.array.shape
        return out if out.array.shape == size else shape.reshape(out, shape=size)

    def take_along_dim(self, indices: Tensor, dim: int | None = None) -> Tensor:
        """Like `gather`, but the index broadcasts and may be negative. With `dim` None, index the
        flattened tensor."""
        constant("take_along_dim", "indices", tensor_of("take_along_dim", indices), self)
        if indices.dtype is not int64:
            raise DTypeError(sentence("take_along_dim", "indices of int64", indices.dtype))
        if dim is None:
            return self.reshape(-1).take_along_dim(indices.reshape(-1), 0)
        axis = axis_of(dim, self.ndim)
        if indices.ndim != self.ndim:
            raise ShapeError(
                "take_along_dim: expected indices of as many dimensions as the input "
                f"({self.ndim}), got {indices.ndim}"
            )
        if not self.array.shape:
            raise IndexOutOfRange(sentence("take_along_dim", "no dim for a 0-d tensor", dim))
        x, at = self, indices
        shapes = [list(x.array.shape), list(at.array.shape)]
        own, picks = (size[:axis] + [1] + size[axis + 1 :] for size in shapes)
        size = list(broadcast_shapes(own, picks))
        wide = [*size[:axis], shapes[0][axis], *size[axis + 1 :]]
        narrow = [*size[:axis], shapes[1][axis], *size[axis + 1 :]]
        at = comparison.where(at + shapes[0][axis], at, condition=(at < 0).array)
        return x.expand(wide).gather(axis, at.expand(narrow))

    def scatter(
        self,
        dim: int,
        index: Tensor,
        src: Tensor | Number | None = None,
        *,
        value: Number | None = None,
        reduce: str | None = None,
    ) -> Tensor:
        """Return a copy with `out[index[i, j], j] = src[i, j]` for dim 0; `src` is a tensor or a
        number."""
        return self._scatter(to_copy, dim, index, src, value=value, reduce=reduce)

    def _scatter(
        self,
        put: Put,
        dim: int,
        index: Tensor,
        src: Tensor | Number | None = None,
        *,
        value: Number | None = None,
        reduce: str | None = None,
    ) -> Tensor:
        if src is None:
            src = number_of("scatter", "value", value, takes_complex=True)
        elif value is not None:
            raise TypeMismatch(sentence("scatter", "src or value", "both"))
        elif not isinstance(src, Variable):
            number_of("scatter", "src", src, takes_complex=True)
        if not is_empty(index):
            check_index("scatter", index, self)
        if reduce == "multiply":
            x: Any = self
            factors = src if isinstance(src, Variable) else x.new_full(index.shape, src)
            return _scatter_reduced("scatter", put, x, dim, index, factors, "prod", True)
        if reduce not in (None, "add"):
            kind = ArgumentError if isinstance(reduce, str) else TypeMismatch
            raise kind(f"scatter: expected reduce None, 'add' or 'multiply', got {reduce!r}")
        return self._scattered("scatter", put, dim, index, src, reduce == "add")

    @autocasts("widest_on_gpu")
    def scatter_add(self, dim: int, index: Tensor, src: Tensor | Number) -> Tensor:
        """Return a copy with `out[index[i, j], j] += src[i, j]` for dim 0."""
        return self._scatter_add(to_copy, dim, index, src)

    def _scatter_add(self, put: Put, dim: int, index: Tensor, src: Tensor | Number) -> Tensor:
        return self._scattered("scatter_add", put, dim, index, tensor_of("scatter_add", src), True)

    def _scattered(
        self, caller: str, put: Put, dim: int, index: Tensor, src: Tensor | Number, add: bool
    ) -> Tensor:
        if is_empty(index):
            axis_of(dim, self.ndim)
            constant(caller, "index", index, self)
            if not isinstance(src, Variable):
                return elementwise.clone(self)
            same_dtype(caller, "src", self, src)
            none = (self.backend.zeros((0,), int64.numpy),)
            flat, picked = self.reshape(-1), ops.getitem(src.reshape(-1), index=none)
            out = ops.setitem(flat, picked, index=none)
            return shape.reshape(out, shape=self.array.shape)
        x, at, axis = self._places(caller, dim, index, self.backend.looks_along)
        size = at.array.shape
        if isinstance(src, Variable):
            same_dtype(caller, "src", self, src)
            source = vector_of(src)
            own = source.array.shape
            if len(own) != len(size) or any(n > m for n, m in zip(size, own, strict=True)):
                raise ShapeError(
                    f"{caller}: expected an index no larger than src, got index {tuple(size)} and "
                    f"src {tuple(own)}"
                )
            source = source if own == size else source[tuple(slice(0, n) for n in size)]
        else:
            number_of(caller, "src", src, takes_complex=True)
            src = fitting(caller, "src", src, self.dtype)
            if self.dtype.is_packed:
                raise packed_refused(caller, self.array)
            array = self.backend.full(size, src, self.array.dtype)
            source = wrap(array, self.backend)
        try:
            out = put(ops.put_along, x, source, index=at.array, axis=axis, add=add)
        except IndexError:
            in_range(caller, self.backend, at.array, axis, x.array.shape[axis])
            raise
        return out if out.array.shape == self.array.shape else shape.reshape(out, shape=())

    def _places(
        self, caller: str, dim: int, index: Tensor, looked_at: bool = False
    ) -> tuple[Tensor, Tensor, int]:
        """Check the input, index and dimension of gather or scatter; return the first two and the
        axis. The values of the index are checked too, unless the op will do this (`looked_at`)."""
        check_index(caller, index, self)
        x, at = vector_of(self), vector_of(index)
        own, size = x.array.shape, at.array.shape
        if len(own) != len(size):
            raise ShapeError(
                f"{caller}: expected an index of as many dimensions as the input ({self.ndim}), "
                f"got {index.ndim}"
            )
        axis = axis_of(dim, len(own))
        if (
            size != own
            and (size[:axis] != own[:axis] or size[axis + 1 :] != own[axis + 1 :])
            and any(n > m for i, (n, m) in enumerate(zip(size, own, strict=True)) if i != axis)
        ):
            raise ShapeError(
                f"{caller}: expected an index no larger than the input apart from dim {axis}, got "
                f"index {tuple(size)} for input {tuple(own)}"
            )
        if not looked_at:
            in_range(caller, self.backend, at.array, axis, own[axis])
        return x, at, axis

    def scatter_reduce(
        self: Any,
        dim: int,
        index: Tensor,
        src: Tensor,
        reduce: str,
        *,
        include_self: bool = True,
    ) -> Tensor:
        """Return a copy in which each out[k, j] (for dim 0) is the sum, prod, mean, amax or amin of
        all src[i, j] with index[i, j] == k, and of self[k, j] if `include_self`. Ties share the
        gradient."""
        return self._scatter_reduce(to_copy, dim, index, src, reduce, include_self=include_self)

    def _scatter_reduce(
        self: Any,
        put: Put,
        dim: int,
        index: Tensor,
        src: Tensor,
        reduce: str,
        *,
        include_self: bool = True,
    ) -> Tensor:
        _known("scatter_reduce", reduce, REDUCTIONS)
        return _scatter_reduced("scatter_reduce", put, self, dim, index, src, reduce, include_self)

    def index_reduce(
        self: Any,
        dim: int,
        index: Tensor,
        source: Tensor,
        reduce: str,
        *,
        include_self: bool = True,
    ) -> Tensor:
        """Like `scatter_reduce`, for whole slices of `dim`: slice i of `source` goes to
        index[i]."""
        return self._index_reduce(to_copy, dim, index, source, reduce, include_self=include_self)

    def _index_reduce(
        self: Any,
        put: Put,
        dim: int,
        index: Tensor,
        source: Tensor,
        reduce: str,
        *,
        include_self: bool = True,
    ) -> Tensor:
        _known("index_reduce", reduce, REDUCTIONS[1:])
        same_dtype("index_reduce", "source", self, tensor_of("index_reduce", source))
        constant("index_reduce", "source", source, self)
        self._slices("index_reduce", dim, index, source)  # raises for misfits
        axis = axis_of(dim, self.ndim)
        if self.ndim:
            source = vector_of(source)
            index = index.long().reshape([-1 if i == axis else 1 for i in range(self.ndim)])
            index = index.expand(source.shape)
        return _scatter_reduced("index_reduce", put, self, dim, index, source, reduce, include_self)

    @autocasts("widest_on_gpu")
    def index_put(
        self: Any,
        indices: Sequence[Tensor | None],
        values: Tensor,
        accumulate: bool = False,
    ) -> Tensor:
        """Return a copy in which x[indices] is `values`, or x[indices] + `values`
        (`accumulate`)."""
        return self._index_put(to_copy, indices, values, accumulate)

    def _index_put(
        self: Any,
        put: Put,
        indices: Sequence[Tensor | None],
        values: Tensor,
        accumulate: bool = False,
    ) -> Tensor:
        if not isinstance(indices, (tuple, list)):
            got = type(indices).__name__
            raise ArgumentError(sentence("index_put", "a tuple of tensors as indices", got))
        same_dtype("index_put", "values", self, tensor_of("index_put", values))
        if values.ndim:
            constant("index_put", "values", values, self)
        else:
            values = values.to(self.device)
        key = tuple(slice(None) if i is None else i for i in indices)
        at, arrays = index_of(key, self)
        if at is None and arrays is not None and self.backend.reads_values:
            return self._put_at(put, key, arrays, values, accumulate)
        # The flat positions that the index selects, without gradients.
        places = _counted(self)[key].reshape(-1)
        flat = _spread(values, self[key].shape).reshape(-1)
        return _at_flat(to_copy, self, places.array, flat, accumulate)

    def _put_at(
        self: Any, put: Put, key: Any, arrays: tuple[Any, ...], values: Tensor, accumulate: bool
    ) -> Tensor:
        op = ops.index_add if accumulate else ops.setitem
        try:
            size = size_at(arrays, self.shape) or self[key].shape
            return put(op, self, _spread(values, size), index=arrays)
        except IndexError:
            raise IndexOutOfRange(misfit(key, self)) from None

    def put(self: Any, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
        """Return a copy with the elements at `index` of the flattened tensor replaced by `source`,
        or with `source` added to them (`accumulate`)."""
        return self._put(to_copy, index, source, accumulate)

    def _put(
        self: Any, put: Put, index: Tensor, source: Tensor, accumulate: bool = False
    ) -> Tensor:
        same_dtype("put", "source", self, tensor_of("put", source))
        if tensor_of("put", index).dtype is not int64:
            raise DTypeError(sentence("put", "an index of int64", index.dtype))
        constant("put", "index", index, self)
        constant("put", "source", source, self)
        if index.numel() != source.numel():
            expected = f"as many elements of source as of index ({index.numel()})"
            raise ShapeError(sentence("put", expected, source.numel()))
        places = index.reshape(-1)
        try:
            return _at_flat(put, self, places.array, source.reshape(-1), accumulate)
        except IndexError:
            raise IndexOutOfRange(beyond("put", places, 0, (self.numel(),))) from None


def _known(caller: str, reduce: str, names: Sequence[str]) -> None:
    if not isinstance(reduce, str):
        raise TypeMismatch(sentence(caller, "a string as reduce", repr(reduce)))
    if reduce not in names:
        raise ArgumentError(sentence(caller, f"reduce one of {', '.join(names)}", repr(reduce)))


def _counted(x: Any) -> Tensor:
    """Return the positions of x's elements in row-major order, in its shape."""
    places = np.arange(math.prod(x.shape)).reshape(tuple(x.shape))
    return wrap(x.backend.asarray(places), x.backend)


def _spread(values: Any, size: Any) -> Tensor:
    """The values of `index_put` in the shape of what the index selects."""
    if values.ndim > len(size):
        expected = f"values that broadcast to {tuple(size)}"
        raise ShapeError(sentence("index_put", expected, values.shape))
    return values.expand(size)


def _at_flat(put: Put, x: Any, places: Any, values: Any, accumulate: bool) -> Tensor:
    op = ops.index_add if accumulate else ops.setitem
    return without_base(put(op, x.reshape(-1), values, index=(places,)).reshape(x.shape))


def _scatter_reduced(
    caller: str, put: Put, x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool
) -> Tensor:
    """Do `scatter_reduce`, with errors that name the caller."""
    same_dtype(caller, "src", x, tensor_of(caller, src))
    constant(caller, "src", src, x)
    if is_empty(index):
        return x._scattered(caller, to_copy, dim, index, src, True)
    own, at, axis = x._places(caller, dim, index)
    src = vector_of(src)
    if src.ndim != at.ndim or any(n < m for n, m in zip(src.shape, at.shape, strict=True)):
        expected = f"src no smaller than the index {tuple(index.shape)}"
        raise ShapeError(sentence(caller, expected, tuple(src.shape)))
    if src.shape != at.shape:  # else its gradient would be copied, too
        src = src[tuple(slice(0, n) for n in at.shape)]
    be = x.backend
    few = at.numel() * FEW <= x.numel()
    if few and put is not to_copy and be.has_values and isinstance(at.array, np.ndarray):
        # The slices alone to which something goes; not where reading these numbers would wait for
        # other work, or end a recording.
        if be.is_view_of(src.array, x.array):  # saved for the gradient, and then overwritten
            src = elementwise.clone(src)
        found, places = at.unique(return_inverse=True)
        part = own[tuple(slice(0, n) if i != axis else slice(None) for i, n in enumerate(at.shape))]
        if found.numel() < x.shape[axis] and be.is_view_of(part.array, x.array):
            out = _reduced(part.index_select(axis, found), axis, places, src, reduce, include_self)
            return put(ops.setitem, part, out, index=(slice(None),) * axis + (found.array,))
    if x.ndim:
        return _reduced(own, axis, at, src, reduce, include_self)
    own = elementwise.clone(own)  # an in-place form keeps what the last op alone has saved
    return without_base(_reduced(own, axis, at, src, reduce, include_self).reshape(()))


def _reduced(x: Any, axis: int, index: Any, src: Any, reduce: str, include_self: bool) -> Tensor:
    """x with what is scattered to its places along `axis` reduced there."""
    be = x.backend
    if reduce == "mean" or not include_self:
        # In 16 bits, one more than 2048 would be no more.
        kind = x.dtype if x.dtype in (float32, float64) else int64
        count = wrap(be.count_along(index.array, x.array.shape, axis, kind.numpy), be)
    own = x if include_self else x.masked_fill(count > 0, identity(reduce, x.dtype))
    if reduce in ("sum", "mean"):
        total = own.scatter_add(axis, index, src)
        if reduce == "sum":
            return total
        size = (count + 1 if include_self else count.clamp(min=1)).to(x.dtype)
        return total / size if x.is_floating_point() else total.div(size, rounding_mode="floor")
    return ops.reduce_along(
        *(own, src),
        index=index.array,
        axis=axis,
        combine={"prod": "multiply", "amax": "maximum", "amin": "minimum"}[reduce],
        identity=identity(reduce, x.dtype),
        include_self=include_self,
    )


def identity(reduce: str, dtype: Any) -> float:
    """Return the neutral element of a reduction."""
    if reduce in ("sum", "prod", "mean"):
        return int(reduce == "prod")
    if dtype is bool_:
        return reduce == "amin"
    refuse_complex(reduce, [dtype])
    if dtype.is_floating_point:
        return -math.inf if reduce == "amax" else math.inf
    return iinfo(dtype).min if reduce == "amax" else iinfo(dtype).max
