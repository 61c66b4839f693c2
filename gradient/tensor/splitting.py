"""Parts of a tensor as views, along a dimension or by strides: methods of Tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.variable import Variable
from gradient.dtypes import int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.ops import shape
from gradient.tensor.arguments import axis_of, int_of, int_or_scalar, ints_of
from gradient.tensor.shaping import Shaping
from gradient.tensor.views import indexed, view_of, views_of

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor


class Splitting(Shaping):
    """narrow, split and similar methods, unfold, as_strided."""

    __slots__ = ()

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """Return a view of `length` elements of dimension `dim` from `start`."""
        start, length = int_or_scalar("narrow", "start", start), int_of("narrow", "length", length)
        axis, n = self._length("narrow", dim)
        begin = start + n if start < 0 else start
        if not 0 <= begin <= n or length < 0 or begin + length > n:
            raise IndexOutOfRange(
                f"narrow: start ({start}) + length ({length}) exceeds dimension size ({n})"
            )
        at = (slice(None),) * axis + (slice(begin, begin + length),)
        return indexed(self, at)

    def select(self, dim: int, index: int) -> Tensor:
        """Return a view of slice `index` of dimension `dim`, without this dimension."""
        axis, index = axis_of(dim, len(self.array.shape)), int_of("select", "index", index)
        at = (slice(None),) * axis + (index, Ellipsis)
        try:
            return indexed(self, at)
        except (IndexOutOfRange, DTypeError):
            return self[at]  # raises our error, or selects from a packed tensor

    def _length(self, caller: str, dim: int) -> tuple[int, int]:
        """Return the axis of a dimension to split, and its size."""
        size = self.array.shape
        axis = axis_of(dim, len(size))
        if not size:
            raise IndexOutOfRange(sentence(caller, "at least one dimension", "a 0-d tensor"))
        return axis, size[axis]

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Split along `dim` into pieces of `split_size` (the last may be smaller), or of the given
        sizes; the pieces are views."""
        if isinstance(split_size, bool):
            raise TypeMismatch(sentence("split", "ints as split_size", split_size))
        axis, n = self._length("split", dim)
        if isinstance(split_size, int):
            if split_size < 0 or (split_size == 0 and n):
                raise ArgumentError(f"split: expected a positive split_size, got {split_size}")
            indices = shape.even_indices(n, split_size if n else 1, axis)
        else:
            sizes = ints_of("split", "split_size", split_size)
            if min(sizes, default=0) < 0:
                raise ShapeError(sentence("split", "sizes of at least 0", sizes))
            if sum(sizes) != n:
                raise ShapeError(
                    f"split: sizes {sizes} sum to {sum(sizes)}, not to {n} (dim {dim})"
                )
            indices = shape.piece_indices(sizes, axis)
        return views_of(self, shape.split, indices, axis)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """Split along `dim` into at most `chunks` views of equal size; the last may be smaller."""
        if (chunks := int_of("chunk", "chunks", chunks)) <= 0:
            raise ArgumentError(f"chunk: expected a positive number of chunks, got {chunks}")
        axis, n = self._length("chunk", dim)
        if n:
            indices = shape.even_indices(n, -(-n // chunks), axis)
        else:
            indices = shape.piece_indices([0] * chunks, axis)
        return views_of(self, shape.split, indices, axis)

    def tensor_split(
        self,
        sections: int | Sequence[int] | Tensor | None = None,
        dim: int = 0,
        *,
        indices: Sequence[int] | Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Split along `dim` into `sections` views whose sizes differ by at most 1, or at indices.

        Indices (a sequence or a tensor of ints) have the same meaning as in slices.
        """
        if (sections is None) == (indices is None):
            got = "neither" if indices is None else "both"
            raise TypeMismatch(sentence("tensor_split", "sections or indices", got))
        given: Any = sections if indices is None else indices
        axis, n = self._length("tensor_split", dim)
        if isinstance(given, Variable) and given.array.dtype != int64.numpy:
            raise DTypeError(sentence("tensor_split", "sections or indices of int64", given.dtype))
        if hasattr(given, "tolist"):
            given = given.tolist()
        if isinstance(given, int):
            if given < 1:
                raise ArgumentError(f"tensor_split: expected sections > 0, got {given}")
            base, more = divmod(n, given)
            return self.split([base + (i < more) for i in range(given)], dim)
        at = ints_of("tensor_split", "sections", given)
        cuts = [slice(a, b) for a, b in zip([0, *at], [*at, n], strict=True)]
        before = (slice(None),) * axis
        return tuple(self[(*before, cut)] for cut in cuts)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """Return all slices along `dim`, without this dimension, as views."""
        axis, n = self._length("unbind", dim)
        return views_of(self, shape.unbind, shape.slice_indices(n, axis), axis)

    def unfold(self, dimension: int, size: int, step: int) -> Tensor:
        """Return all windows of `size` along `dimension`, `step` elements apart; the elements of a
        window are a new last dimension. A view on backends with strides."""
        axis = axis_of(dimension, self.ndim)
        size, step = int_of("unfold", "size", size), int_of("unfold", "step", step)
        x: Any = self if self.ndim else self.reshape(1)
        room = x.array.shape[axis]
        if step <= 0 or not 0 <= size <= room:
            raise ShapeError(
                f"unfold: expected 0 <= size <= {room} (the size of dimension {dimension}) and "
                f"step > 0, got size {size} and step {step}"
            )
        options = {"axis": axis, "size": size, "step": step}
        out = view_of(x, shape.sliding_window(x, **options), shape.sliding_window, options)
        return out if self.ndim else out[0]

    def as_strided(
        self, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
    ) -> Tensor:
        """Return a tensor whose element (i, j) is element storage_offset + i * stride[0] + j *
        stride[1] of the memory.

        It is a view if the tensor (or, without a gradient, the owner of its memory) is in row-major
        order; else a copy. Elements of the memory that are not in this tensor have no gradient.
        """
        from gradient.tensor import strided

        return strided.as_strided(self, size, stride, storage_offset)

    def as_strided_scatter(
        self,
        src: Tensor,
        size: Sequence[int],
        stride: Sequence[int],
        storage_offset: int | None = None,
    ) -> Tensor:
        """Return a copy in which the elements that `as_strided` selects are `src`."""
        from gradient.tensor import strided

        return strided.as_strided_scatter(self, src, size, stride, storage_offset)
