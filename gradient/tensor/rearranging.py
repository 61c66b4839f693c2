"""Flips, rolls, rotations, splits, and writes to a copy: methods of Tensor, composed of ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.dtypes import bool_
from gradient.errors import ArgumentError, IndexOutOfRange, ShapeError, TypeMismatch, sentence
from gradient.ops import elementwise, shape
from gradient.ops import index as ops
from gradient.tensor.arguments import (
    axis_of,
    int_of,
    ints_of,
    shape_of,
    size_of,
    tensor_of,
    tuple_argument,
)
from gradient.tensor.base import TensorBase
from gradient.tensor.shaping import distinct
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor


class Rearranging(TensorBase):
    """flip, roll, rot90, hsplit and similar methods, `*_scatter`, diff."""

    __slots__ = ()

    def flip(self, *size: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
        """Reverse the order of elements along the given dimensions; return a copy."""
        n = self.ndim
        if not size and dims is None:
            raise TypeMismatch(sentence("flip", "the dimensions to reverse", "none"))
        given = shape_of(size) if dims is None else tuple_argument("flip", "dims", dims, size)
        axes = distinct("flip", [axis_of(d, n) for d in given])
        return shape.flip(self, axis=tuple(axes))

    def roll(self, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
        """Rotate the elements by `shifts` along `dims`; with None, along the flattened tensor."""
        if dims is None or dims == () or dims == []:
            return without_base(self.reshape(-1).roll(shifts, 0).reshape(self.array.shape))
        steps, along = ints_of("roll", "shifts", shifts), ints_of("roll", "dims", dims)
        if len(steps) != len(along):
            raise ShapeError(f"roll: expected as many shifts as dims, got {steps} and {along}")
        if not steps:
            raise ShapeError("roll: expected at least one shift, got none")
        x: Any = self
        for by, dim in zip(steps, along, strict=True):
            axis = axis_of(dim, self.ndim)
            n = self.array.shape[axis] if self.ndim else 1
            if n and by % n:
                x = shape.roll(x, by=by % n, axis=axis)
        return elementwise.clone(self) if x is self else x

    def __reversed__(self: Any) -> Tensor:
        """Reverse the order along the first dimension; return self if there is none."""
        return self.flip(0) if self.ndim else self

    def fliplr(self: Any) -> Tensor:
        """Reverse the order of columns (dimension 1)."""
        _at_least("fliplr", self, 2)
        return self.flip(1)

    def flipud(self: Any) -> Tensor:
        """Reverse the order of rows (dimension 0)."""
        _at_least("flipud", self, 1)
        return self.flip(0)

    def rot90(self: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
        """Rotate k times by 90 degrees in the plane of two dimensions, from the first towards the
        second."""
        _at_least("rot90", self, 2)
        if isinstance(dims, int):
            raise TypeMismatch(sentence("rot90", "two ints as dims", dims))
        plane = ints_of("rot90", "dims", dims)
        if len(plane) != 2 or axis_of(plane[0], self.ndim) == axis_of(plane[1], self.ndim):
            raise ArgumentError(sentence("rot90", "two different dims", dims))
        turns = int_of("rot90", "k", k) % 4
        if turns == 2:
            return self.flip(plane)
        if turns == 0:
            return self.clone()
        return without_base(self.flip(plane[turns == 1]).transpose(*plane))

    def hsplit(
        self: Any,
        sections: int | Sequence[int] | None = None,
        *,
        indices: Sequence[int] | None = None,
    ) -> tuple[Tensor, ...]:
        """Split along dimension 1 (0 for a 1-D tensor) like `tensor_split`; `sections` must be
        equal in size."""
        _at_least("hsplit", self, 1)
        return _split("hsplit", self, sections, indices, min(self.ndim - 1, 1))

    def vsplit(
        self: Any,
        sections: int | Sequence[int] | None = None,
        *,
        indices: Sequence[int] | None = None,
    ) -> tuple[Tensor, ...]:
        """Split along dimension 0 like `tensor_split`; `sections` must be equal in size."""
        _at_least("vsplit", self, 2)
        return _split("vsplit", self, sections, indices, 0)

    def dsplit(
        self: Any,
        sections: int | Sequence[int] | None = None,
        *,
        indices: Sequence[int] | None = None,
    ) -> tuple[Tensor, ...]:
        """Split along dimension 2 like `tensor_split`; `sections` must be equal in size."""
        _at_least("dsplit", self, 3)
        return _split("dsplit", self, sections, indices, 2)

    def split_with_sizes(self: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Split into pieces of the given sizes along `dim`."""
        return self.split(ints_of("split_with_sizes", "split_sizes", split_sizes), dim)

    def diagflat(self: Any, offset: int = 0) -> Tensor:
        """Make a matrix with all elements of self on a diagonal."""
        return self.reshape(-1).diag(offset)

    def msort(self: Any) -> Tensor:
        """Sort along dimension 0."""
        return self.sort(0).values

    def sum_to_size(
        self: Any, *sizes: int | Sequence[int], size: Sequence[int] | None = None
    ) -> Tensor:
        """Sum to a shape that broadcasts to this one."""
        target = size_of(sizes, size)
        lead = self.ndim - len(target)
        own = self.array.shape
        if lead < 0 or any(n not in (1, m) for n, m in zip(target, own[lead:], strict=True)):
            expected = f"a size that broadcasts to {tuple(own)}"
            raise ShapeError(sentence("sum_to_size", expected, target))
        summed = [i for i, n in enumerate(own) if i < lead or (n != 1 == target[i - lead])]
        if not target:
            return self.sum()
        if not summed:
            return self
        return without_base(self.sum(tuple(summed), True).reshape(target))

    def slice_scatter(
        self: Any,
        src: Tensor,
        dim: int = 0,
        start: int | None = None,
        end: int | None = None,
        step: int = 1,
    ) -> Tensor:
        """Return a copy in which the slice start:end:step of `dim` is `src`."""
        _at_least("slice_scatter", self, 1, IndexOutOfRange)
        if int_of("slice_scatter", "step", step) < 1:
            raise ArgumentError(sentence("slice_scatter", "a step of at least 1", step))
        axis = axis_of(dim, self.ndim)
        return _written(
            "slice_scatter", self, src, (slice(None),) * axis + (slice(start, end, step),)
        )

    def select_scatter(self: Any, src: Tensor, dim: int, index: int) -> Tensor:
        """Return a copy in which slice `index` of `dim` is `src`."""
        _at_least("select_scatter", self, 1, IndexOutOfRange)
        self.select(dim, index)  # raises if the index is out of range
        axis = axis_of(dim, self.ndim)
        at = int_of("select_scatter", "index", index) % self.array.shape[axis]
        return _written("select_scatter", self, src, (slice(None),) * axis + (at,))

    def diagonal_scatter(
        self: Any, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
    ) -> Tensor:
        """Return a copy in which a diagonal is `src`."""
        expected = self.diagonal(offset, dim1, dim2)
        _same_size("diagonal_scatter", src, expected)
        n, down = expected.shape[-1], max(-offset, 0)
        x = self.movedim((dim1, dim2), (0, 1))
        rows, columns = (self.backend.asarray(np.arange(n) + at) for at in (down, down + offset))
        out = ops.setitem(x, src.movedim(-1, 0), index=(rows, columns))
        return without_base(out.movedim((0, 1), (dim1, dim2)))

    def diff(
        self: Any,
        n: int = 1,
        dim: int = -1,
        prepend: Tensor | None = None,
        append: Tensor | None = None,
    ) -> Tensor:
        """The n-th differences of neighbours along `dim`; for bools, whether they differ."""
        from gradient.tensor.joining import cat

        _at_least("diff", self, 1)
        if int_of("diff", "n", n) < 0:
            raise ArgumentError(sentence("diff", "n of at least 0", n))
        if n == 0:
            return elementwise.clone(self)
        x = cat([t for t in (prepend, self, append) if t is not None], dim)
        axis = axis_of(dim, x.ndim)
        for _ in range(min(n, x.shape[axis])):
            size = x.shape[axis]
            later, earlier = (x.narrow(axis, s, max(size - 1, 0)) for s in (min(size, 1), 0))
            x = later.ne(earlier) if x.dtype is bool_ else later - earlier
        return x


def _at_least(caller: str, x: Any, ndim: int, error: type[Exception] = ShapeError) -> None:
    if x.ndim < ndim:
        raise error(sentence(caller, f"at least {ndim} dimensions", f"{x.ndim}"))


def _split(caller: str, x: Any, sections: Any, indices: Any, dim: int) -> tuple[Tensor, ...]:
    """Split into equal parts, or at indices."""
    if (sections is None) == (indices is None):
        got = "neither" if indices is None else "both"
        raise TypeMismatch(sentence(caller, "sections or indices", got))
    given = indices if sections is None else sections
    if isinstance(given, int) and (given < 1 or x.shape[dim] % given):
        expected = f"sections that divide {x.shape[dim]}, the size of dim {dim}"
        raise ArgumentError(sentence(caller, expected, given))
    return x.tensor_split(given, dim)


def _same_size(caller: str, src: Any, part: Any) -> None:
    if tensor_of(caller, src).array.shape != part.array.shape:
        expected = f"src of shape {tuple(part.array.shape)}"
        raise ShapeError(sentence(caller, expected, tuple(src.array.shape)))


def _written(caller: str, x: Variable, src: Any, at: tuple[Any, ...]) -> Tensor:
    """Return a copy of x with `src` at an index without arrays."""
    part = x.backend.getitem(x.array, at)
    if tensor_of(caller, src).array.shape != part.shape:
        expected = f"src of shape {tuple(part.shape)}"
        raise ShapeError(sentence(caller, expected, tuple(src.array.shape)))
    return ops.setitem(x, src, index=at)
