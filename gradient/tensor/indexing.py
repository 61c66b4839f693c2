"""Indexing, and selection by tensors of indices or masks: methods of Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from gradient.autograd.explain import packed_refused
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import is_packed
from gradient.dtypes import bool_, float64, int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.ops import comparison, shape
from gradient.ops import index as ops
from gradient.tensor.arguments import (
    all_samples,
    axis_of,
    beyond,
    check_index,
    constant,
    fitting,
    in_range,
    is_index,
    number_of,
    shown,
    tensor_of,
    vector_of,
)
from gradient.tensor.arithmetic import Arithmetic, same_dtype
from gradient.tensor.float8 import maker_of
from gradient.tensor.index_keys import Index, index_of, misfit
from gradient.tensor.overwrite import Put, overwrite_at, to_copy
from gradient.tensor.packed import select_rows
from gradient.tensor.views import in_order, indexed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.autograd.variable import Number
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor


VALUES = (Variable, int, float, complex, np.number, np.bool_, np.ndarray)
"""The types of values that can be assigned at an index."""

MANY = 1 << 12
"""Elements from which the nonzero ones are sought in one dimension."""

WIDE, LARGE = ("f", "d"), 2.0**63
"""The dtype characters of float32 and float64; numbers below LARGE fit these and int64."""


def _without_leading_ones(size: Sequence[int]) -> tuple[int, ...]:
    lead = next((i for i, n in enumerate(size) if n != 1), len(size))
    return tuple(size[lead:])


class Indexing(Arithmetic):
    """x[...], x[...] = v, index_select, masked_select and similar methods."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Tensor:
        at: Index | None
        arrays: Index | None
        if type(key) is int:
            at, arrays = (key, Ellipsis), None
        else:
            at, arrays = index_of(key, self)
        try:
            out: Any = self if at is None else indexed(self, at)
            if arrays is None:
                return out
            if len(arrays) == 1 and arrays[0].dtype.kind == "b":
                return _at_mask(out, arrays[0])
            return in_order(ops.getitem(out, index=arrays))
        except IndexOutOfRange:
            raise IndexOutOfRange(misfit(key, self)) from None
        except DTypeError:
            if not is_packed(self.array):
                raise
            return self._picked_rows(key, [i for i in (at, arrays) if i is not None])

    def _picked_rows(self, key: Any, steps: list[tuple[Any, ...]]) -> Tensor:
        """Do `x[key]` for a packed tensor."""
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
            return  # nothing is selected, so nothing is written
        if key is True:
            key = None  # the same elements, as a view
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
            if size and size[0] == 1:  # PyTorch drops leading dimensions of size 1
                value = shape.reshape(value, shape=_without_leading_ones(size))
            if arrays is not None and value.array.shape:
                constant("setitem", "value", value, self)
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
                target = self if at is None else indexed(self, at)
                overwrite_at(target, arrays, value)
        except IndexError:
            raise IndexOutOfRange(misfit(key, self)) from None
        except (ValueError, TypeError):
            raise ShapeError(
                f"setitem: a value of shape {tuple(size)} cannot be broadcast to the indexed part, "
                f"of shape {tuple(self[key].array.shape)}"
            ) from None

    def _array_of(self, value: Any) -> ArrayOperators:
        """Convert a value to an array of this tensor's dtype, on its device."""
        dtype = self.array.dtype
        kind = type(value)
        if (
            dtype.char in WIDE
            and (kind is float or kind is int or kind is bool)
            and (-LARGE < value < LARGE or value - value != 0)  # infinite, or NaN
        ):
            return self.backend.asarray(value, dtype)
        if (kind is int or kind is bool) and dtype.kind in "iub" and _holds(dtype, value):
            return self.backend.asarray(value, dtype)
        if isinstance(value, np.ndarray) and value.shape:
            if value.dtype.kind == "c" and dtype.kind != "c":
                expected = f"values that {self.dtype} can hold"
                raise DTypeError(sentence("setitem", expected, value.dtype, "take .real of it"))
        else:
            if self.dtype.is_packed and not self.array.dtype.elementwise:
                raise packed_refused("setitem", self.array)
            value = number_of("setitem", "value", value, takes_complex=True)
            value = fitting("setitem", "value", value, self.dtype, infinite=True)
        try:
            return self.backend.asarray(value, dtype)
        except TypeError:
            made: Any = maker_of("setitem", self.array, self.backend).full((), value, dtype)
            return made

    def _check_source(self, arrays: tuple[Any, ...], value: Any) -> None:
        """Raise if the value at an index of arrays is a tensor of another dtype. One number at a
        mask is allowed."""
        picks = [a for a in arrays if hasattr(a, "dtype")]
        if value.numel() == 1 and len(picks) == 1 and picks[0].dtype.kind == "b":
            return
        raise DTypeError(
            "setitem: expected a value of the tensor's dtype at an index of tensors, "
            f"{self.dtype}, got {value.dtype}; cast it with .to()"
        )

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Select the slices of `dim` at `index`, a 1-D tensor of ints; the result is a copy."""
        if self._are_rows(dim, index):
            try:
                return ops.embedding(self, indices=index.array)
            except IndexOutOfRange:
                pass  # the code below raises the error
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
        """Whether an index selects rows of a matrix: its values then need no check before."""
        return (
            _is_matrix(self.array)
            and (dim == 0 or dim == -2)
            and type(dim) is int
            and self.backend.looks_along
            and is_index(index)
            and index.backend is self.backend
            and len(index.array.shape) == 1
        )

    def index_add(self, dim: int, index: Tensor, source: Tensor, *, alpha: Number = 1) -> Tensor:
        """Return a copy with alpha * source added to the slices of `dim` at `index`."""
        return self._index_add(to_copy, dim, index, source, alpha=alpha)

    def _index_add(
        self, put: Put, dim: int, index: Tensor, source: Tensor, *, alpha: Number = 1
    ) -> Tensor:
        x, at = self._slices("index_add", dim, index, source)
        alpha = number_of("index_add", "alpha", alpha, takes_complex=True)
        if source.dtype.kind in ("bool", "int"):
            real: Any = fitting("index_add", "alpha", alpha, float64)
            alpha = bool(real) if source.dtype is bool_ else int(real)
        elif not source.dtype.is_complex:
            alpha = fitting("index_add", "alpha", alpha, source.dtype)
        source = vector_of(source if alpha == 1 else source * alpha)
        out = put(ops.index_add, x, source, index=at)
        return out if self.array.shape else shape.reshape(out, shape=())

    def index_copy(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """Return a copy with the slices of `dim` at `index` replaced by those of `source`."""
        return self._index_copy(to_copy, dim, index, source)

    def _index_copy(self, put: Put, dim: int, index: Tensor, source: Tensor) -> Tensor:
        if not isinstance(source, Variable):
            raise TypeMismatch(sentence("index_copy", "a Tensor as source", type(source).__name__))
        x, at = self._slices("index_copy", dim, index, source)
        out = put(ops.setitem, x, vector_of(source), index=at)
        return out if self.array.shape else shape.reshape(out, shape=())

    def index_fill(self, dim: int, index: Tensor, value: Tensor | Number) -> Tensor:
        """Return a copy with the slices of `dim` at `index` filled with a number or 0-d tensor."""
        return self._index_fill(to_copy, dim, index, value)

    def _index_fill(self, put: Put, dim: int, index: Tensor, value: Tensor | Number) -> Tensor:
        x, at = self._slices("index_fill", dim, index, from_end=True)
        backend, size = self.backend, x.array.shape
        if not isinstance(value, Variable):
            value = number_of("index_fill", "value", value, takes_complex=True)
            if isinstance(value, complex) and not self.dtype.is_complex:  # not even 1 + 0j
                raise ArgumentError(sentence("index_fill", "a real number as value", value))
            value = fitting("index_fill", "value", value, self.dtype)
        if self.dtype.is_packed:
            raise packed_refused("index_fill", self.array)
        try:
            if put is not to_copy and not isinstance(value, Variable):
                array = backend.full((), value, self.array.dtype)
                out = put(ops.setitem, x, wrap(array, backend), index=at)
            else:
                out = self._filled_by_where(x, at, value)
        except IndexError:
            raise IndexOutOfRange(beyond("index_fill", index, len(at) - 1, size)) from None
        return out if self.array.shape else shape.reshape(out, shape=())

    def _filled_by_where(self, x: Any, at: tuple[Any, ...], value: Any) -> Tensor:
        """x with `value` in the slices at an index; not by assignment, whose gradient would count a
        repeated index twice."""
        backend, size = self.backend, x.array.shape
        hit = backend.full((size[len(at) - 1],), False, bool_.numpy)
        hit = backend.assign(hit, at[-1:], True)
        hit = backend.reshape(hit, (-1,) + (1,) * (len(size) - len(at)))
        out = comparison.where(value, x, condition=hit)
        return out if out.dtype is self.dtype else out.to(self.dtype)

    def _slices(
        self,
        caller: str,
        dim: int,
        index: Tensor,
        source: Tensor | None = None,
        from_end: bool = False,
    ) -> tuple[Tensor, tuple[object, ...]]:
        """Return the input of an op on whole slices of `dim`, and their index; check `source`. The
        index may be negative only with `from_end`."""
        check_index(caller, index, self)
        if index.ndim > 1:
            raise IndexOutOfRange(
                f"{caller}: expected an index of one dimension, got shape {tuple(index.shape)}"
            )
        x, index = vector_of(self), vector_of(index)
        axis = axis_of(dim, x.ndim)
        at = index.array
        if not from_end:
            at = in_range(caller, self.backend, at, axis, x.array.shape[axis])
        if source is not None:
            same_dtype(caller, "source", self, source)
            own, given = list(x.array.shape), list(vector_of(source).array.shape)
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
        """Return the elements where the bool `mask` is True, as a 1-D tensor."""
        x, at = self._masked("masked_select", mask)
        return _at_mask(x, at.array)

    def masked_scatter(self, mask: Tensor, source: Tensor) -> Tensor:
        """Return a copy; where `mask` is True, the elements are those of `source`, in order."""
        return self._masked_scatter(to_copy, mask, source)

    def _masked_scatter(self, put: Put, mask: Tensor, source: Tensor) -> Tensor:
        x, at = self._masked("masked_scatter", mask)
        same_dtype("masked_scatter", "source", self, source)
        if not (at.backend.reads_values and at.backend.has_values):
            # In `vmap` samples take different numbers of elements.
            return self._each_scattered(x, at, source)
        n = int(at.sum().item())
        if tensor_of("masked_scatter", source).numel() < n:
            raise ShapeError(
                f"masked_scatter: the mask holds {n} times but source has {source.numel()} elements"
            )
        if x.array.shape != self.array.shape:  # no write to an expanded tensor
            put = to_copy
        return put(ops.setitem, x, source.reshape(-1)[:n], index=(at.array,))

    def _each_scattered(self, x: Any, mask: Any, source: Any) -> Tensor:
        """`masked_scatter` by the place in `source` of each element where the mask is True."""
        places = mask.reshape(-1).cumsum(0).reshape(mask.shape) - 1
        counts = all_samples(mask.sum())
        known = counts.numel() and counts.backend.has_values
        most = int(counts.max().item()) if known else 0
        if source.numel() < most:
            raise ShapeError(
                f"masked_scatter: the mask holds {most} times but source has {source.numel()} "
                "elements"
            )
        taken = source.reshape(-1)[places.clamp(min=0)] if source.numel() else x
        return comparison.where(taken, x, condition=mask.array)

    def _masked(self: Any, caller: str, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input and its mask, broadcast to one shape."""
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
        """Return the indices (N, ndim) of the nonzero elements; with `as_tuple`, one tensor (N,)
        for each dimension."""
        import numpy as np

        host = np.asarray(self.backend.to_numpy(self.array))
        if not host.shape:
            count = int(host != 0)
            if as_tuple:
                return (wrap(self.backend.zeros((count,), np.dtype(np.int64)), self.backend),)
            return wrap(self.backend.zeros((count, 0), np.dtype(np.int64)), self.backend)
        found = _places(host)
        if as_tuple:
            return tuple(wrap(self.backend.asarray(c), self.backend) for c in found)
        together = np.empty((found[0].size, len(found)), np.int64)
        for axis, column in enumerate(found):
            together[:, axis] = column
        return wrap(self.backend.asarray(together), self.backend)

    def argwhere(self) -> Tensor:
        """Return the indices (N, ndim) of the nonzero elements."""
        return self.nonzero()

    def take(self, index: Tensor) -> Tensor:
        """Return the elements at `index` (int64) of the flattened tensor, in the shape of
        `index`."""
        if tensor_of("take", index).dtype is not int64:
            raise DTypeError(sentence("take", "an index of int64", index.dtype))
        return self._taken("take", self.reshape(-1), (constant("take", "index", index, self),))

    def _taken(self, caller: str, x: Any, at: tuple[Any, ...]) -> Tensor:
        """Return x[at], where the last item of `at` is an array; errors name the caller."""
        try:
            if len(at) > 1:
                return in_order(ops.select(x, index=at[-1], axis=len(at) - 1))
            return in_order(ops.getitem(x, index=at))
        except IndexOutOfRange:
            index = wrap(at[-1], self.backend)
            message = beyond(caller, index, len(at) - 1, x.array.shape)
            raise IndexOutOfRange(message) from None


def _at_mask(x: Any, mask: Any) -> Tensor:
    """x[mask]"""
    if mask.shape == x.array.shape and mask.shape:
        return ops.compress(x, mask=mask)
    return in_order(ops.getitem(x, index=(mask,)))


def _places(host: np.ndarray) -> tuple[np.ndarray, ...]:
    """As np.nonzero. Of bools in one dimension NumPy finds them ten times quicker than in several;
    the others follow from how many each row has."""
    marks = host if host.dtype == np.bool_ else host != 0
    if host.ndim == 1 or not host.size:
        return np.nonzero(marks)
    if host.size < MANY:
        return np.nonzero(marks)
    rows = np.ascontiguousarray(marks).reshape(-1, marks.shape[-1])
    flat = np.flatnonzero(rows)
    counts = rows.sum(1)
    last = flat - np.repeat(np.arange(len(rows)) * rows.shape[1], counts)
    leading = np.unravel_index(np.arange(len(rows)), marks.shape[:-1])
    return (*(np.repeat(axis, counts) for axis in leading), last)


def _is_matrix(array: Any) -> bool:
    """Whether an array is a matrix whose dtype backends have row kernels for."""
    return len(array.shape) == 2 and array.dtype.char in "fd"


def _holds(dtype: Any, number: int) -> bool:
    """Whether an integer or bool dtype can represent an int."""
    half = 1 << 8 * dtype.itemsize - 1
    return (0 if dtype.kind == "u" else -half) <= number < half
