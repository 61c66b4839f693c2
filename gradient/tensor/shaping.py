"""Shapes and the order of dimensions: methods of Tensor."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from gradient.autograd.autocast import autocasts
from gradient.dtypes import DType, dtype_of, int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    NoNumbers,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.ops import elementwise, index, shape
from gradient.tensor.arguments import (
    axis_of,
    int_of,
    ints_of,
    shape_of,
    size_argument,
    size_of,
    tensor_of,
    tuple_argument,
)
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.views import in_order, view_of, viewer, without_base

if TYPE_CHECKING:
    import numpy as np

    from gradient.autograd.variable import Number
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor

INT64 = int64.numpy

reshaped, permuted = viewer(shape.reshape), viewer(shape.permute)
expanded = viewer(shape.broadcast_to)


class Shaping(Arithmetic):
    """Methods that change the shape; as in PyTorch, the results are views if strides allow it."""

    __slots__ = ()

    def reshape(self, *size: int | Sequence[int], shape: Sequence[int] | None = None) -> Tensor:
        """Return the same elements in another shape; one size may be -1 and is inferred."""
        if shape is not None:
            size = (tuple_argument("reshape", "shape", shape, size),)
        return self._reshaped(size)

    def _reshaped(self, size: tuple[Any, ...]) -> Tensor:
        """Do `reshape`, for calls from methods."""
        target, least = size or shape_of(size), 0
        for n in size:
            if type(n) is not int:
                target = shape_of(size)
                least = min(target, default=0)
                break
            if n < 0:
                least = n
        if least < 0:
            target = _inferred(self.array.shape, target)
        try:
            return reshaped(self, target)
        except ShapeError:
            if math.prod(target) == math.prod(self.array.shape):
                raise  # no elements, in a shape that NumPy does not allow
            raise _misfit(target, self.array.shape) from None

    def view(
        self,
        *shape: int | Sequence[int] | DType,
        size: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
    ) -> Tensor:
        """Like `reshape`, but raise ShapeError if a copy would be needed. view(dtype) reinterprets
        the same bytes as another dtype; the last dimension changes if the item sizes differ."""
        if len(shape) == 1 and isinstance(shape[0], DType):
            dtype = shape[0]
        if dtype is not None:
            from gradient.tensor.bits import view_as_dtype

            return view_as_dtype(self, dtype_of(dtype))
        if size is not None:
            shape = (tuple_argument("view", "size", size, shape),)
        out = self._reshaped(shape)
        if out.view_info is None and math.prod(self.array.shape) > 1:
            raise ShapeError(
                f"view: shape {tuple(self.array.shape)} is not contiguous enough to be seen as "
                f"{tuple(out.array.shape)} without a copy; use .reshape(...)"
            )
        return out

    def view_as(self, other: Tensor | Number) -> Tensor:
        """Return a `view` in the shape of `other`, which shares the memory.

        Raises:
            ShapeError: the number of elements differs, or the strides do not allow it.
        """
        return self.view(tensor_of("view_as", other).array.shape)

    def reshape_as(self, other: Tensor | Number) -> Tensor:
        """`reshape` to the shape of `other`, which has the same number of elements."""
        return self.reshape(tensor_of("reshape_as", other).array.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Merge dimensions start_dim to end_dim into one."""
        size = self.array.shape
        if type(start_dim) is not int or type(end_dim) is not int:
            start_dim, end_dim = axis_of(start_dim, len(size)), axis_of(end_dim, len(size))
        target = _flattened(size, start_dim, end_dim)
        return cast("Tensor", self) if target is None else reshaped(self, target)

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """Split dimension `dim` into `sizes`."""
        sizes = tuple_argument("unflatten", "sizes", sizes)
        axis, size = axis_of(dim, self.ndim), self.array.shape
        if not size:
            raise ShapeError("unflatten: expected at least one dimension, got a 0-d tensor")
        sizes = _inferred((size[axis],), sizes)
        if math.prod(sizes) != size[axis]:
            raise ShapeError(
                sentence("unflatten", f"sizes whose product is {size[axis]} (dim {dim})", sizes)
            )
        return self._reshaped((*size[:axis], *sizes, *size[axis + 1 :]))

    def ravel(self) -> Tensor:
        """Flatten to one dimension: a view of a contiguous tensor, else a copy."""
        return self.contiguous().reshape(-1)

    def permute(self, *order: int | Sequence[int], dims: Sequence[int] | None = None) -> Tensor:
        """Return a view with the dimensions in the given order."""
        if dims is not None:
            order = (tuple_argument("permute", "dims", dims, order),)
        axes = order or shape_of(order)
        for d in order:
            if type(d) is not int:
                axes = shape_of(order)
                break
        return permuted(self, _permutation(axes, len(self.array.shape)))

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Return a view with dimensions `dim0` and `dim1` swapped."""
        n = len(self.array.shape)
        if type(dim0) is not int or type(dim1) is not int:
            dim0, dim1 = axis_of(dim0, n), axis_of(dim1, n)
        return permuted(self, _swapped(dim0, dim1, n))

    swapdims = transpose

    def swapaxes(self, axis0: int, axis1: int) -> Tensor:
        """An alias of `transpose`."""
        return self.transpose(axis0, axis1)

    def t(self) -> Tensor:
        """The transpose of a tensor of at most two dimensions."""
        n = len(self.array.shape)
        if n > 2:
            raise ShapeError(f"t(): expected at most 2 dimensions, got {n}")
        return permuted(self, _reversed(n))

    @property
    def T(self) -> Tensor:  # noqa: N802 (PyTorch's name)
        """A view with all dimensions in reverse order."""
        return permuted(self, _reversed(len(self.array.shape)))

    @property
    def mT(self) -> Tensor:  # noqa: N802
        """A view with the last two dimensions swapped."""
        return self.transpose(-2, -1) if self.ndim else cast("Tensor", self)

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
        """Move dimensions `source` to the positions `destination`; a view."""
        n = self.ndim
        sources = ints_of("movedim", "source", source)
        targets = ints_of("movedim", "destination", destination)
        if isinstance(source, int) != isinstance(destination, int):
            got = f"{source!r} and {destination!r}"
            raise TypeMismatch(sentence("movedim", "two ints or two tuples of ints", got))
        if len(sources) != len(targets):
            got = f"{sources} and {targets}"
            raise ShapeError(sentence("movedim", "as many destinations as sources", got))
        for dims in (sources, targets):
            distinct("movedim", [axis_of(d, n) for d in dims])
        moved = {axis_of(t, n): axis_of(s, n) for s, t in zip(sources, targets, strict=True)}
        rest = iter(i for i in range(n) if i not in moved.values())
        return self.permute([moved[i] if i in moved else next(rest) for i in range(n)])

    moveaxis = movedim

    def squeeze(self, dim: int | Sequence[int] | None = None) -> Tensor:
        """Remove dimensions of size 1 (all of them, or those in `dim`); a view."""
        size = self.array.shape
        if type(dim) is int:
            axis = axis_of(dim, len(size))
            left = size[:axis] + size[axis + 1 :] if size and size[axis] == 1 else size
        elif dim is None:
            left = tuple([n for n in size if n != 1])
        else:
            dims = [axis_of(d, len(size)) for d in ints_of("squeeze", "dim", dim)]
            drop = distinct("squeeze", dims)
            left = tuple([n for i, n in enumerate(size) if n != 1 or i not in drop])
        return reshaped(self, left)

    def unsqueeze(self, dim: int) -> Tensor:
        """Return a view with a new dimension of size 1 at `dim`."""
        size = self.array.shape
        if type(dim) is not int:
            dim = axis_of(dim, len(size) + 1)
        return reshaped(self, _unsqueezed(size, dim))

    def expand(self, *sizes: int | Sequence[int], size: Sequence[int] | None = None) -> Tensor:
        """Repeat dimensions of size 1 without a copy; -1 keeps a size."""
        if size is not None:
            sizes = (tuple_argument("expand", "size", size, sizes),)
        asked = sizes or shape_of(sizes)
        for n in sizes:
            if type(n) is not int:
                asked = shape_of(sizes)
                break
        return expanded(self, _expanded(self.array.shape, asked))

    broadcast_to = expand

    def expand_as(self, other: Tensor | Number) -> Tensor:
        """`expand` to the shape of `other`; shares the memory."""
        return self.expand(tensor_of("expand_as", other).array.shape)

    def repeat(self, *sizes: int | Sequence[int], repeats: Sequence[int] | None = None) -> Tensor:
        """Repeat the tensor along each dimension, the given number of times; a copy."""
        times = size_of(
            sizes if repeats is None else (tuple_argument("repeat", "repeats", repeats, sizes),)
        )
        own = self.array.shape
        if len(times) < len(own):
            raise ShapeError(
                f"repeat: {len(times)} repeats for {len(own)} dimensions; give at least as many"
            )
        own = (1,) * (len(times) - len(own)) + own
        mixed = self.reshape(tuple(n for size in own for n in (1, size)))
        wide = mixed.expand(tuple(n for t, size in zip(times, own, strict=True) for n in (t, size)))
        # Copy even if only one element is repeated: an expanded tensor cannot be written.
        whole = elementwise.contiguous(wide)
        return shape.reshape(
            whole, shape=tuple(t * size for t, size in zip(times, own, strict=True))
        )

    def tile(self, *sizes: int | Sequence[int], dims: Sequence[int] | None = None) -> Tensor:
        """Repeat `dims` times along the last dimensions; add leading dimensions if necessary."""
        times = size_of(sizes if dims is None else (tuple_argument("tile", "dims", dims, sizes),))
        return self.repeat((1,) * (self.ndim - len(times)) + times)

    def repeat_interleave(
        self, repeats: int | Tensor, dim: int | None = None, *, output_size: int | None = None
    ) -> Tensor:
        """Repeat each element `repeats` times in a row (an int, or a tensor of ints along
        `dim`)."""
        x = self.reshape(-1) if dim is None else self
        axis = 0 if dim is None else axis_of(dim, self.ndim)
        size = x.array.shape[axis] if x.ndim else 1
        if not isinstance(repeats, int):
            x = x if x.ndim else x.reshape(1)
            at = _repeated(size, tensor_of("repeat_interleave", repeats), output_size)
            where = (slice(None),) * axis + (self.backend.asarray(at),)
            return in_order(index.getitem(x, index=where))
        size_argument("repeat_interleave", "repeats", repeats)
        _check_output_size(size * repeats, output_size)
        sizes = x.array.shape
        wide = x.unsqueeze(axis + 1).expand(*sizes[: axis + 1], repeats, *sizes[axis + 1 :])
        sizes = (*sizes[:axis], size * repeats, *sizes[axis + 1 :])
        return shape.reshape(elementwise.contiguous(wide), shape=sizes)

    def tril(self, diagonal: int = 0) -> Tensor:
        """Return the lower triangle of the last two dimensions, with zeros above."""
        return self._triangle("tril", diagonal, True)

    def triu(self, diagonal: int = 0) -> Tensor:
        """Return the upper triangle of the last two dimensions, with zeros below."""
        return self._triangle("triu", diagonal, False)

    def _triangle(self, caller: str, diagonal: int, lower: bool) -> Tensor:
        diagonal = int_of(caller, "diagonal", diagonal)
        if self.ndim < 2:
            expected = "at least two dimensions"
            raise ShapeError(sentence(caller, expected, tuple(self.array.shape)))
        return shape.triangle(self, diagonal=diagonal, lower=lower)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """Return the diagonal of two dimensions as the last dimension; a view."""
        offset = int_of("diagonal", "offset", offset)
        x = self.movedim((dim1, dim2), (-2, -1))
        return view_of(x, shape.diagonal(x, offset=offset), shape.diagonal, {"offset": offset})

    def diag(self, diagonal: int = 0) -> Tensor:
        """Return the diagonal of a matrix, or a matrix with this vector as diagonal."""
        if self.ndim not in (1, 2):
            raise ShapeError(sentence("diag", "a vector or a matrix", tuple(self.array.shape)))
        if self.ndim == 2:
            return elementwise.clone(self.diagonal(diagonal))
        return self.diag_embed(diagonal)

    def diag_embed(self, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
        """Make matrices, in dimensions dim1 and dim2, with the last dimension as diagonal."""
        if not self.ndim:
            raise IndexOutOfRange(sentence("diag_embed", "at least one dimension", "a 0-d tensor"))
        *batch, n = self.array.shape
        distinct("diag_embed", [axis_of(d, self.ndim + 1) for d in (dim1, dim2)])
        size = n + abs(int_of("diag_embed", "offset", offset))
        steps = self.backend.arange(0, n, 1, INT64)
        at = (..., steps + max(-offset, 0), steps + max(offset, 0))
        out = index.place(self, shape=(*batch, size, size), index=at)
        if (dim1, dim2) == (-2, -1):
            return out
        return without_base(out.movedim((-2, -1), (dim1, dim2)))

    @autocasts("float32_on_cpu")
    def trace(self) -> Tensor:
        """The sum of a matrix's diagonal."""
        if self.ndim != 2:
            raise ShapeError(sentence("trace", "a matrix", tuple(self.array.shape)))
        return self.diagonal().sum()


def distinct(caller: str, axes: list[int]) -> list[int]:
    """Return the axes; raise if one occurs twice."""
    if len(set(axes)) != len(axes):
        raise ShapeError(sentence(caller, "each dimension once", axes))
    return axes


@functools.lru_cache
def _swapped(dim0: int, dim1: int, ndim: int) -> tuple[int, ...]:
    """Return the order of axes with two swapped."""
    a, b = axis_of(dim0, ndim), axis_of(dim1, ndim)
    axes = list(range(ndim))
    if ndim:  # a 0-d tensor counts as one with one dimension
        axes[a], axes[b] = axes[b], axes[a]
    return tuple(axes)


@functools.lru_cache
def _reversed(ndim: int) -> tuple[int, ...]:
    """Return the axes from the last to the first."""
    return tuple(reversed(range(ndim)))


@functools.lru_cache
def _permutation(order: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Check the order of axes for `permute`: each axis occurs once."""
    axes = tuple(axis_of(d, ndim) for d in order)
    if len(order) != ndim or len(set(axes)) != ndim:
        raise ShapeError(f"permute: expected each of {ndim} dimensions once, got {order}")
    return axes


@functools.lru_cache
def _flattened(size: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...] | None:
    """Return the shape with dimensions merged; None if that changes nothing."""
    n = len(size)
    first, last = axis_of(start_dim, n), axis_of(end_dim, n)
    if n and first == last:
        return None
    if first > last:
        raise ShapeError(
            f"flatten(): start_dim ({start_dim}) cannot come after end_dim ({end_dim})"
        )
    return (*size[:first], math.prod(size[first : last + 1]), *size[last + 1 :])


@functools.lru_cache
def _unsqueezed(size: tuple[int, ...], dim: int) -> tuple[int, ...]:
    """Return the shape with a new dimension of size 1."""
    axis = axis_of(dim, len(size) + 1)
    return (*size[:axis], 1, *size[axis:])


@functools.lru_cache
def _expanded(own: tuple[int, ...], asked: tuple[int, ...]) -> tuple[int, ...]:
    """Return the target shape of `expand`, with each -1 replaced."""
    target, extra = list(asked), len(asked) - len(own)
    if extra < 0:
        raise ShapeError(f"expand: {asked} has fewer dimensions than {tuple(own)}")
    for i, n in enumerate(own):
        wanted = target[i + extra]
        target[i + extra] = n if wanted == -1 else wanted
        if n != 1 and target[i + extra] != n:
            raise ShapeError(
                f"expand: size {n} of dimension {i} cannot become {wanted} "
                f"(from {tuple(own)} to {asked})"
            )
    return tuple(target)


@functools.lru_cache
def _inferred(own: Sequence[int], target: tuple[int, ...]) -> tuple[int, ...]:
    """Return `target` with its -1 replaced."""
    if min(target, default=0) < -1:
        raise ShapeError(sentence("reshape", "sizes of at least 0, or one -1", target))
    if -1 not in target:
        return target
    total, known = math.prod(own), math.prod(n for n in target if n != -1)
    if target.count(-1) > 1:
        raise ShapeError(f"reshape: only one dimension can be inferred, got {target}")
    if not known or total % known:
        raise _misfit(target, own)
    return tuple(total // known if n == -1 else n for n in target)


def _misfit(target: Sequence[int], own: Sequence[int]) -> ShapeError:
    return ShapeError(f"shape '{list(target)}' is invalid for input of size {math.prod(own)}")


def _repeated(size: int, repeats: Tensor, output_size: int | None) -> np.ndarray:
    """The indices of `size` elements, each as often as `repeats` says."""
    import numpy as np

    if repeats.array.dtype.kind not in "iu":
        raise DTypeError(sentence("repeat_interleave", "ints as repeats", repeats.dtype))
    if repeats.ndim > 1 or repeats.numel() not in (1, size):
        raise ShapeError(
            f"repeat_interleave: expected 1 or {size} ints as repeats, got {repeats.dtype} of "
            f"shape {tuple(repeats.shape)}"
        )
    if not repeats.backend.has_values:
        if output_size is None:
            found = f"repeats on the device {repeats.device}, which has no values"
            raise NoNumbers(sentence("repeat_interleave", "output_size", found))
        return np.zeros(output_size, np.int64)
    counts = repeats.backend.to_numpy(repeats.array)
    if counts.size and counts.min() < 0:
        raise ArgumentError(sentence("repeat_interleave", "repeats of at least 0", counts.min()))
    at = np.repeat(np.arange(size), counts)
    _check_output_size(at.size, output_size)
    return at


def _check_output_size(size: int, output_size: int | None) -> None:
    if output_size is not None and size != output_size:
        raise ArgumentError(sentence("repeat_interleave", f"output_size {size}", output_size))
