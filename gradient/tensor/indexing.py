"""Indexing, gathering and scattering: methods of Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.explain import error_for_any_caller
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import is_packed
from gradient.dtypes import bool_, int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    out_of_bounds,
    sentence,
)
from gradient.ops import elementwise, shape
from gradient.ops import index as ops
from gradient.tensor.arguments import (
    INDICES,
    axis_of,
    constant,
    fitting,
    number_of,
    shown,
    tensor_of,
)
from gradient.tensor.arithmetic import Arithmetic, same_dtype
from gradient.tensor.base import TensorBase
from gradient.tensor.float8 import maker_of
from gradient.tensor.index_keys import Index, index_of, misfit
from gradient.tensor.overwrite import overwrite_at
from gradient.tensor.packed import select_rows
from gradient.tensor.views import in_order, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.autograd.variable import Number
    from gradient.backends import Backend
    from gradient.tensor.core import Tensor


VALUES = (Variable, int, float, complex, np.number, np.bool_, np.ndarray)
"""What can be written at an index."""


def _vector(tensor: TensorBase) -> Tensor:
    """The tensor, or its one element as a vector, as PyTorch sees 0-d operands here."""
    return cast("Tensor", tensor) if tensor.array.shape else tensor.reshape(1)


def _without_leading_ones(size: Sequence[int]) -> tuple[int, ...]:
    lead = next((i for i, n in enumerate(size) if n != 1), len(size))
    return tuple(size[lead:])


class Indexing(Arithmetic):
    """x[...], x[...] = v, gather, scatter and their like."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Tensor:
        at: Index | None
        arrays: Index | None
        if type(key) is int:
            at, arrays = (key, Ellipsis), None
        else:
            at, arrays = index_of(key, self)
        try:
            out: Any = self if at is None else view(self, ops.getitem, at)
            return out if arrays is None else in_order(ops.getitem(out, index=arrays))
        except IndexOutOfRange:
            raise IndexOutOfRange(misfit(key, self)) from None
        except DTypeError:
            if not is_packed(self.array):
                raise
            return self._picked_rows(key, [i for i in (at, arrays) if i is not None])

    def _picked_rows(self, key: Any, steps: list[tuple[Any, ...]]) -> Tensor:
        """As `x[key]`, of a packed tensor."""
        out: Any = self
        for index in steps:
            try:
                out = select_rows(out, index)
            except IndexOutOfRange:
                raise
            except IndexError:
                raise IndexOutOfRange(misfit(key, self)) from None
        return out

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(value, VALUES):
            raise TypeMismatch(sentence("setitem", "a number or a Tensor", shown(value)))
        if key is False:
            return  # selects nothing, and is no write
        if key is True:
            key = None  # the same place, as a view
        at: Index | None
        arrays: Index | None
        if type(key) is int:
            at, arrays = (key, Ellipsis), None
        else:
            at, arrays = index_of(key, self)
        if isinstance(value, Variable):
            size = value.array.shape
            if arrays is not None and value.array.dtype != self.array.dtype:
                self._check_source(arrays, value)
            if size and size[0] == 1:  # PyTorch leaves out leading ones
                value = shape.reshape(value, shape=_without_leading_ones(size))
        else:
            value = self._array_of(value)
            size = value.shape
            if size and size[0] == 1:
                value = self.backend.reshape(value, _without_leading_ones(size))
        target = self
        try:
            if arrays is None:
                overwrite_at(self, at or (), value)
            else:
                target = self if at is None else view(self, ops.getitem, at)
                overwrite_at(target, arrays, value)
        except IndexError:
            raise IndexOutOfRange(misfit(key, self)) from None
        except (ValueError, TypeError):
            raise ShapeError(
                f"setitem: a value of shape {tuple(size)} cannot be broadcast to the indexed part, "
                f"of shape {tuple(self[key].array.shape)}"
            ) from None

    def _array_of(self, value: Any) -> Any:
        """Numbers as an array of this tensor's dtype, beside it."""
        dtype = self.array.dtype
        if dtype.kind != "f" and isinstance(value, (int, float)):
            value = fitting("setitem", "value", value, self.dtype, infinite=True)
        try:
            return self.backend.asarray(value, dtype)
        except TypeError:
            return maker_of("setitem", self.array, self.backend).full((), value, dtype)

    def _check_source(self, arrays: tuple[Any, ...], value: Any) -> None:
        """Refuse a tensor of another dtype as the value at an index of arrays, unless it is one
        number at a mask."""
        picks = [a for a in arrays if hasattr(a, "dtype")]
        if value.numel() == 1 and len(picks) == 1 and picks[0].dtype.kind == "b":
            return
        raise DTypeError(
            "setitem: expected a value of the tensor's dtype at an index of tensors, "
            f"{self.dtype}, got {value.dtype}; cast it with .to()"
        )

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The slices of `dim` at a 1-D tensor of ints."""
        if self._are_rows(dim, index):
            try:
                return ops.embedding(self, indices=index.array)
            except IndexOutOfRange:
                pass  # what follows says it
        x, at = self._slices("index_select", dim, index)
        if len(at) == 1 and _is_matrix(x.array):
            return ops.embedding(x, indices=at[0])
        out = self._taken("index_select", x, at)
        if self.array.shape:
            return out
        if out.array.shape != (1,):
            raise ShapeError(
                f"index_select: a 0-d tensor has one slice, got {out.array.shape[0]} indices"
            )
        return shape.reshape(out, shape=())

    def _are_rows(self, dim: int, index: Any) -> bool:
        """Whether an index is of rows of a matrix, which need not be looked at before."""
        return (
            _is_matrix(self.array)
            and (dim == 0 or dim == -2)
            and type(dim) is int
            and self.backend.looks_along
            and _integers_of(index)
            and index.backend is self.backend
            and len(index.array.shape) == 1
        )

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """`out[i, j] = self[index[i, j], j]` for dim 0; the index may be smaller elsewhere."""
        if _is_empty(index):
            axis_of(dim, self.ndim)
            constant("gather", "index", index, self)
            none = self.backend.zeros(index.array.shape, int64.numpy)
            return ops.getitem(self.reshape(-1), index=(none,))
        x, at, axis = self._places("gather", dim, index, self.backend.looks_along)
        try:
            out = ops.take_along(x, index=at.array, axis=axis)
        except IndexError:
            _in_range("gather", self.backend, at.array, axis, x.array.shape[axis])
            raise
        size = index.array.shape
        return out if out.array.shape == size else shape.reshape(out, shape=size)

    def take_along_dim(self, indices: Tensor, dim: int | None = None) -> Tensor:
        """As gather, where the index broadcasts and may count from the end; of the flattened tensor
        if `dim` is None."""
        if tensor_of("take_along_dim", indices).dtype is not int64:
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
        from gradient.tensor.joining import broadcast_shapes

        shapes = [list(x.array.shape), list(at.array.shape)]
        own, picks = (size[:axis] + [1] + size[axis + 1 :] for size in shapes)
        size = list(broadcast_shapes(own, picks))
        wide = [*size[:axis], shapes[0][axis], *size[axis + 1 :]]
        narrow = [*size[:axis], shapes[1][axis], *size[axis + 1 :]]
        at = elementwise.where(at + shapes[0][axis], at, condition=(at < 0).array)
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
        """A copy with `out[index[i, j], j] = src[i, j]` for dim 0; `src` a tensor or a number."""
        if src is None:
            src = number_of("scatter", "value", value, takes_complex=True)
        elif value is not None:
            raise TypeMismatch(sentence("scatter", "src or value", "both"))
        elif not isinstance(src, Variable):
            number_of("scatter", "src", src)
        if not _is_empty(index):
            _integers("scatter", index, self)
        if reduce == "multiply":
            x: Any = self
            factors = src if isinstance(src, Variable) else x.new_full(index.shape, src)
            product: Tensor = x.scatter_reduce(dim, index, factors, "prod")
            return product
        if reduce not in (None, "add"):
            kind = ArgumentError if isinstance(reduce, str) else TypeMismatch
            raise kind(f"scatter: expected reduce None, 'add' or 'multiply', got {reduce!r}")
        return self._scattered("scatter", dim, index, src, reduce == "add")

    @autocasts("widest_on_gpu")
    def scatter_add(self, dim: int, index: Tensor, src: Tensor | Number) -> Tensor:
        """A copy with `src[i, j]` added at `out[index[i, j], j]` for dim 0."""
        return self._scattered("scatter_add", dim, index, tensor_of("scatter_add", src), True)

    def _scattered(
        self, caller: str, dim: int, index: Tensor, src: Tensor | Number, add: bool
    ) -> Any:
        if _is_empty(index):
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
            source = _vector(src)
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
            array = self.backend.full(size, src, self.array.dtype)
            source = wrap(array, self.backend)
        try:
            out = ops.put_along(x, source, index=at.array, axis=axis, add=add)
        except IndexError:
            _in_range(caller, self.backend, at.array, axis, x.array.shape[axis])
            raise
        return out if out.array.shape == self.array.shape else shape.reshape(out, shape=())

    def _places(
        self, caller: str, dim: int, index: Tensor, looked_at: bool = False
    ) -> tuple[Any, Any, int]:
        """Input and index of gather or scatter, and the axis. The indices are looked at, unless
        they will be by what takes them."""
        _integers(caller, index, self)
        x, at = _vector(self), _vector(index)
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
            _in_range(caller, self.backend, at.array, axis, own[axis])
        return x, at, axis

    def index_add(self, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
        """A copy with alpha source added at the slices of `dim` at `index`."""
        x, at = self._slices("index_add", dim, index, source)
        alpha = number_of("index_add", "alpha", alpha, takes_complex=True)
        if not source.dtype.is_floating_point:
            alpha = bool(alpha) if source.dtype is bool_ else int(alpha)
        source = _vector(source if alpha == 1 else source * alpha)
        out = ops.index_add(x, source, index=at)
        return out if self.array.shape else shape.reshape(out, shape=())

    def index_copy(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """A copy with the slices of `dim` at `index` replaced."""
        if not isinstance(source, Variable):
            raise TypeMismatch(sentence("index_copy", "a Tensor as source", type(source).__name__))
        x, at = self._slices("index_copy", dim, index, source)
        out = ops.setitem(x, _vector(source), index=at)
        return out if self.array.shape else shape.reshape(out, shape=())

    def index_fill(self, dim: int, index: Tensor, value: Tensor | Number) -> Tensor:
        """A copy with the slices of `dim` at `index` filled with a number (or a 0-d tensor)."""
        x, at = self._slices("index_fill", dim, index, from_end=True)
        if not isinstance(value, Variable):
            value = number_of("index_fill", "value", value, takes_complex=True)
            value = fitting("index_fill", "value", value, self.dtype)
        backend, size = self.backend, x.array.shape
        hit = backend.full((size[len(at) - 1],), False, bool_.numpy)
        try:
            hit = backend.assign(hit, at[-1:], True)
        except IndexError:
            raise IndexOutOfRange(beyond("index_fill", index, len(at) - 1, size)) from None
        hit = backend.reshape(hit, (-1,) + (1,) * (len(size) - len(at)))
        # Not by assignment at the index: its gradient would count a repeated index twice.
        out = elementwise.where(value, x, condition=hit)
        out = out if out.dtype is self.dtype else out.to(self.dtype)
        return out if self.array.shape else shape.reshape(out, shape=())

    def _slices(
        self,
        caller: str,
        dim: int,
        index: Tensor,
        source: Tensor | None = None,
        from_end: bool = False,
    ) -> tuple[Any, tuple[Any, ...]]:
        """The input of an op on whole slices of `dim`, and where they are; `source` must fit. The
        index may count from the end only where so said."""
        _integers(caller, index, self)
        if index.ndim > 1:
            raise IndexOutOfRange(
                f"{caller}: expected an index of one dimension, got shape {tuple(index.shape)}"
            )
        x, index = _vector(self), _vector(index)
        axis = axis_of(dim, x.ndim)
        at = index.array
        if not from_end:
            at = _in_range(caller, self.backend, at, axis, x.array.shape[axis])
        if source is not None:
            same_dtype(caller, "source", self, source)
            own, given = list(x.array.shape), list(_vector(source).array.shape)
            own[axis] = index.array.shape[0]
            if not self.array.shape and own[axis] != 1:
                got = f"{own[axis]} indices"
                raise IndexOutOfRange(sentence(caller, "one index for a 0-d tensor", got))
            if caller == "index_copy" and len(own) != len(given):  # also an IndexError in PyTorch
                expected = f"a source of {len(own)} dimensions"
                raise IndexOutOfRange(sentence(caller, expected, f"shape {tuple(given)}"))
            if own != given:
                raise ShapeError(
                    f"{caller}: expected a source of shape {tuple(own)} (the input's, with as many "
                    f"slices as indices), got {tuple(given)}"
                )
        return x, (slice(None),) * axis + (at,)

    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where the bool `mask` holds, as a 1-D tensor."""
        x, at = self._masked("masked_select", mask)
        return ops.getitem(x, index=(at.array,))

    def masked_scatter(self, mask: Tensor, source: Tensor) -> Tensor:
        """A copy with the elements where `mask` holds taken in order from `source`."""
        x, at = self._masked("masked_scatter", mask)
        n = int(at.sum().item())
        same_dtype("masked_scatter", "source", self, source)
        if tensor_of("masked_scatter", source).numel() < n:
            raise ShapeError(
                f"masked_scatter: the mask holds {n} times but source has {source.numel()} elements"
            )
        return ops.setitem(x, source.reshape(-1)[:n], index=(at.array,))

    def _masked(self, caller: str, mask: Tensor) -> tuple[Any, Any]:
        """The input and its mask, broadcast together."""
        from gradient.tensor.joining import broadcast_tensors

        if tensor_of(caller, mask).array.dtype.kind != "b":
            raise DTypeError(sentence(caller, "a bool Tensor as mask", mask.dtype, "use mask != 0"))
        constant(caller, "mask", mask, self)
        if mask.array.shape == self.array.shape:
            return self, mask
        x, mask = broadcast_tensors(self, mask)
        return x, mask

    @overload
    def nonzero(self, as_tuple: Literal[False] = False) -> Tensor: ...
    @overload
    def nonzero(self, as_tuple: Literal[True]) -> tuple[Tensor, ...]: ...
    def nonzero(self, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
        """The indices (N, ndim) of the elements that are not zero, or one tensor a dimension."""
        import numpy as np

        host = np.asarray(self.backend.to_numpy(self.array))
        if not host.shape:
            count = int(host != 0)
            if as_tuple:
                return (wrap(self.backend.zeros((count,), np.dtype(np.int64)), self.backend),)
            return wrap(self.backend.zeros((count, 0), np.dtype(np.int64)), self.backend)
        found = np.nonzero(host)
        columns = [wrap(self.backend.asarray(c), self.backend) for c in found]
        if as_tuple:
            return tuple(columns)
        stacked = np.stack(found, 1) if found else np.zeros((1, 0), np.int64)
        return wrap(self.backend.asarray(stacked), self.backend)

    def argwhere(self) -> Tensor:
        """The indices (N, ndim) of the elements that are not zero."""
        return self.nonzero()

    def take(self, index: Tensor) -> Tensor:
        """The elements at `index` (int64) of the flattened tensor, in the shape of `index`."""
        if tensor_of("take", index).dtype is not int64:
            raise DTypeError(sentence("take", "an index of int64", index.dtype))
        return self._taken("take", self.reshape(-1), (constant("take", "index", index, self),))

    def _taken(self, caller: str, x: Any, at: tuple[Any, ...]) -> Any:
        """x[index], whose last item is an array; errors name the caller."""
        try:
            return in_order(ops.getitem(x, index=at))
        except IndexOutOfRange:
            index = wrap(at[-1], self.backend)
            message = beyond(caller, index, len(at) - 1, x.array.shape)
            raise IndexOutOfRange(message) from None


def _is_empty(index: Any) -> bool:
    """Whether an index of gather or scatter has no elements: it may then be of any dtype and of any
    number of dimensions, as in PyTorch."""
    return isinstance(index, Variable) and 0 in index.array.shape


def _is_matrix(array: Any) -> bool:
    """Whether an array is a matrix for whose rows backends have kernels."""
    return len(array.shape) == 2 and array.dtype.char in "fd"


def _integers_of(index: Any) -> bool:
    """Whether an index is a tensor of int64 or int32."""
    return isinstance(index, Variable) and index.array.dtype in INDICES


def _in_range(caller: str, backend: Backend, index: Any, axis: int, size: int) -> Any:
    try:
        return backend.checked_indices(index, axis, size)
    except IndexError as error:
        raise error_for_any_caller(IndexOutOfRange, caller, str(error)) from None


def _integers(caller: str, index: Tensor, like: Variable) -> None:
    """Refuse an index of another dtype, or on another device than `like`."""
    if not _integers_of(index):
        tensor_of(caller, index)
        kind = IndexOutOfRange if caller == "index_fill" else DTypeError  # PyTorch's, for each
        raise kind(sentence(caller, "an index of int64 or int32", index.dtype))
    if index.backend is not like.backend:
        constant(caller, "index", index, like)  # says it


def beyond(caller: str, index: Tensor, dim: int, size: Sequence[int]) -> str:
    """The first index that is out of range, for an error."""
    values = index.reshape(-1).tolist()
    wrong = next((i for i in values if not -size[dim] <= i < size[dim]), values[0])
    return f"{caller}: {out_of_bounds(wrong, dim, size[dim])}"
