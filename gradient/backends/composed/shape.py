"""Creation, means, and rearrangements composed of the required shape and index methods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shared import (
    diagonal_at,
    prod_before,
    sliced,
    sliding_window_at,
    strided_at,
)
from gradient.backends.required import Array, Axis, Index, RequiredMethods, Shape
from gradient.dtypes import int64
from gradient.errors import ArgumentError

INT64 = int64.numpy


class ShapeDefaults(RequiredMethods[Array]):
    """Methods of `Backend` that make, reduce and move elements."""

    # Creation ------------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: np.dtype) -> Array:
        """An array with undefined values."""
        return self.full(shape, 0, dtype)

    def zeros(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.full(shape, 0, dtype)

    def cleared(self, shape: Shape, dtype: np.dtype) -> Array:
        """`zeros` that the caller will write to."""
        return self.zeros(shape, dtype)

    def ones(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.full(shape, 1, dtype)

    def clone(self, x: Array) -> Array:
        """A copy; if the library has strides, it keeps the memory order of x's dimensions."""
        return self.copy(x)

    def zeros_like(self, x: Array) -> Array:
        return self.zeros(tuple(x.shape), x.dtype)

    def ones_like(self, x: Array) -> Array:
        return self.ones(tuple(x.shape), x.dtype)

    def accumulate(self, x: Array, y: Array) -> Array:
        """`x += y` in place; returns `x`."""
        return self.assign(x, ..., x + y)

    # Reductions ----------------------------------------------------------------------------------

    @in_float32
    def mean(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        total = self.sum(x, axis, keepdims)
        count = _count(x.shape, axis)
        return total / count if count else total * float("nan")

    @in_float32
    def sum_of_squares(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        return self.sum(x * x, axis, keepdims)

    @in_float32
    def var(
        self, x: Array, axis: Axis = None, correction: float = 1, keepdims: bool = False
    ) -> Array:
        """The variance, in two passes corrected for the rounding of the mean (Chan et al. 1983).
        Without degrees of freedom it is inf, or NaN for equal numbers (0 / 0)."""
        scaled, scale = _scaled_variance(self, x, axis, correction, keepdims)
        return scaled * scale * scale

    @in_float32
    def std(
        self, x: Array, axis: Axis = None, correction: float = 1, keepdims: bool = False
    ) -> Array:
        scaled, scale = _scaled_variance(self, x, axis, correction, keepdims)
        return self.sqrt(scaled) * scale

    def all(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if math.prod(x.shape) == 0:
            return self.sum(x == 0, axis, keepdims) == 0
        return self.min(x != 0, axis, keepdims)

    def any(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if math.prod(x.shape) == 0:
            return self.sum(x != 0, axis, keepdims) != 0
        return self.max(x != 0, axis, keepdims)

    def median(self, x: Array) -> Array:
        """The lower median of all elements; NaN if there is a NaN."""
        flat = self.reshape(x, (-1,))
        ordered = self.take_along(flat, self.argsort(flat, 0), 0)
        n = flat.shape[0]
        last = self.getitem(ordered, (n - 1,))  # NaN sorts to the end
        return self.where(last != last, last, self.getitem(ordered, ((n - 1) // 2,)))

    def argmin(self, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        """int64 index of the first minimum."""
        unsigned = str(x.dtype).rpartition(".")[2].startswith(("uint", "bool"))
        return self.argmax(~x if unsigned else -x, axis, keepdims)

    def likeliest(self, x: Array) -> Array:
        """The index of the first maximum of each row: int64 (...) for x (..., C); -1 if the maximum
        is -inf or NaN."""
        none = self.full((), -1, int64.numpy)
        return self.where(self.max(x, -1) > -math.inf, self.argmax(x, -1), none)

    def rows(self, x: Array, index: Array) -> Array:
        """x[index]: the rows of a matrix at bools or integers (negative: from the end)."""
        return self.getitem(x, (index,))

    def compress(self, x: Array, mask: Array) -> Array:
        """The elements of x where a mask of its shape is true, in order: (N,)."""
        return self.getitem(x, (mask,))

    def select(self, x: Array, index: Array, axis: int) -> Array:
        """The slices of an axis at a vector of int64 indices."""
        return self.getitem(x, (slice(None),) * axis + (index,))

    def topk(self, x: Array, k: int, axis: int, largest: bool) -> Array:
        """int64 indices of the k largest (or smallest) along `axis`, best first. Of equal elements
        the earlier comes first; NaN is larger than any number."""
        axis %= len(x.shape)
        if largest:  # reversed twice, so that equal elements keep their order
            order = self.flip(self.argsort(self.flip(x, (axis,)), axis), (axis,))
            order = x.shape[axis] - 1 - order
        else:
            order = self.argsort(x, axis)
        before: tuple[Index, ...] = (slice(None),) * axis
        return self.getitem(order, (*before, slice(0, k)))

    def pick(self, x: Array, index: Array, axis: int) -> Array:
        """Take x at one int64 index along `axis` for each position of the other axes. `index` and
        the result have size 1 on the axis, or lack it. Indices must be in range; they are not
        checked."""
        kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return self.reshape(self.take_along(x, self.reshape(index, kept), axis), tuple(index.shape))

    @in_float32
    def prod_of_others(self, x: Array, axis: Axis = None) -> Array:
        """For each element, the product of all others along the axes: those before times those
        after it. There is no division, so it and its derivatives are correct if elements are 0."""
        n = len(x.shape)
        reduced = range(n) if axis is None else [a % n for a in axes(axis)]
        order = (*(i for i in range(n) if i not in reduced), *reduced)
        moved = self.permute(x, order)
        rows = self.reshape(moved, (*moved.shape[: n - len(reduced)], _count(x.shape, axis)))
        last = len(rows.shape) - 1
        before = prod_before(self, rows, last)
        behind = self.flip(prod_before(self, self.flip(rows, (last,)), last), (last,))
        back = tuple(sorted(range(n), key=order.__getitem__))
        return self.permute(self.reshape(before * behind, tuple(moved.shape)), back)

    # Shape ---------------------------------------------------------------------------------------

    def squeeze(self, x: Array, axis: Axis) -> Array:
        """Drop the given axes of length 1; with None, all axes of length 1."""
        n = len(x.shape)
        drop = set(range(n)) if axis is None else {a % n for a in axes(axis)}
        return self.reshape(x, tuple(size for i, size in enumerate(x.shape) if i not in drop))

    def unsqueeze(self, x: Array, axis: int) -> Array:
        shape = list(x.shape)
        shape.insert(axis % (len(shape) + 1), 1)
        return self.reshape(x, tuple(shape))

    def matrix_transpose(self, x: Array) -> Array:
        """Transpose the last two axes."""
        n = len(x.shape)
        return self.permute(x, (*range(n - 2), n - 1, n - 2))

    def expand(self, x: Array, shape: Shape) -> Array:
        """`x` broadcast to `shape`, as a view or a copy."""
        return self.broadcast_to(x, shape)

    def joined(self, arrays: list[Array], axis: int) -> Array:
        """`concatenate`, for a result that is only read: it may be a view if the arrays are
        adjacent in memory."""
        return self.concatenate(arrays, axis)

    def stack(self, arrays: list[Array], axis: int) -> Array:
        own = tuple(arrays[0].shape)
        axis %= len(own) + 1
        if axis == len(own):  # a new last axis: the arrays' elements alternate
            return self.concatenate([self.reshape(a, (*own, 1)) for a in arrays], axis)
        together = self.concatenate(arrays, axis)
        return self.reshape(together, (*own[:axis], len(arrays), *own[axis:]))

    def flip(self, x: Array, axis: tuple[int, ...]) -> Array:
        if not x.shape:
            return x
        flipped = {a % len(x.shape) for a in axis}
        index = tuple(
            slice(None, None, -1) if i in flipped else slice(None) for i in range(len(x.shape))
        )
        return self.getitem(x, index)

    def roll(self, x: Array, by: int, axis: int) -> Array:
        """x rotated along an axis by 0 < `by` < its size."""
        n = x.shape[axis]
        return self.concatenate(
            [sliced(self, x, axis, n - by, n), sliced(self, x, axis, 0, n - by)], axis
        )

    def diagonal(self, x: Array, offset: int) -> Array:
        """The diagonal of the last two axes, as a last axis; above the main one if `offset` > 0."""
        return self.getitem(x, diagonal_at(self, x.shape, offset))

    def triangle(self, x: Array, diagonal: int, lower: bool) -> Array:
        """The lower (or upper) triangle of the last two axes, zero elsewhere."""
        rows, columns = x.shape[-2:]
        row = self.reshape(self.arange(0, rows, 1, int64.numpy), (rows, 1)) + diagonal
        column = self.arange(0, columns, 1, int64.numpy)
        keep = column <= row if lower else column >= row
        return self.where(keep, x, self.full((), 0, x.dtype))

    def pad(self, x: Array, widths: tuple[tuple[int, int], ...], value: complex = 0) -> Array:
        """Pad x by `value`; `widths` has (before, after) for each axis."""
        shape = tuple(a + size + b for size, (a, b) in zip(x.shape, widths, strict=True))
        inside = tuple(slice(a, a + size) for size, (a, _) in zip(x.shape, widths, strict=True))
        return self.assign(self.full(shape, value, x.dtype), inside, x)

    def pad_around(self, x: Array, widths: tuple[tuple[int, int], ...], mode: str) -> Array:
        """Pad x along each axis by `widths` (before, after) of its own elements: "reflect" mirrors
        it at its edges, "replicate" repeats them, "circular" begins again. Negative ones crop."""
        for axis, (before, after) in enumerate(widths):
            if before or after:
                x = self.getitem(x, self._around(x.shape[axis], axis, before, after, mode))
        return x

    def pad_around_grad(
        self, g: Array, shape: Shape, widths: tuple[tuple[int, int], ...], mode: str
    ) -> Array:
        """The gradient for an input of `pad_around` of this shape."""
        for axis, (before, after) in reversed(list(enumerate(widths))):
            if before or after:
                n = shape[axis]
                smaller = (*g.shape[:axis], n, *g.shape[axis + 1 :])
                g = self.place(g, smaller, self._around(n, axis, before, after, mode))
        return g

    def _around(self, n: int, axis: int, before: int, after: int, mode: str) -> tuple[Index, ...]:
        """The index of the elements that stand along an axis of n, padded."""
        places = self.arange(-before, n + after, 1, int64.numpy)
        last = self.full((), n - 1, int64.numpy)
        if mode == "circular":
            places = places % n
        elif mode == "replicate":
            places = self.maximum(self.minimum(places, last), last * 0)
        else:
            places = last - self.abs(last - self.abs(places))  # mirrored at 0, then at n - 1
        return (*(slice(None),) * axis, places)

    def check_indices(self, index: Array, axis: int, size: int) -> None:
        """Raise IndexError if an index of `axis` is not from 0 to size - 1. A backend checks only
        if that is cheap; on a device, it would have to wait."""

    def checked_indices(self, index: Array, axis: int, size: int) -> Array:
        """Check an index by `check_indices` and return it. If a device reports errors later, the
        result carries the error."""
        self.check_indices(index, axis, size)
        return index

    def check_range(self, x: Array, low: float, high: float, op: str, name: str) -> None:
        """Raise ArgumentError unless all of x, the argument `name` of `op`, is from low to high;
        NaN is not. Like indices, checked only if that is cheap."""

    def check_true(self, holds: Array, message: str) -> None:
        """Raise ArgumentError with this message unless all of `holds` is true."""
        if not self.to_numpy(holds).all():
            raise ArgumentError(message)

    def place(self, x: Array, shape: Shape, index: tuple[Index, ...]) -> Array:
        """The adjoint (gradient) of `getitem`: zeros of `shape` with x added at `index`."""
        zeros = self.cleared(tuple(shape), x.dtype)
        if any(hasattr(i, "dtype") for i in index):
            return self.index_add(zeros, index, x)
        return self.assign(zeros, index, x)

    def searchsorted(self, rows: Array, values: Array, right: bool) -> Array:
        """int64 places at which to insert values (..., m) in sorted rows (..., n), or values of any
        shape in one row (n,): before equal elements, or with `right` after them; NaN last. The
        dtypes are the same."""
        n, size = rows.shape[-1], tuple(values.shape)
        low = self.zeros(size, int64.numpy)
        high = self.full(size, n, int64.numpy)
        for _ in range(n.bit_length()):
            middle = (low + high) // 2
            places = self.minimum(middle, self.full((), n - 1, int64.numpy))
            places = self.reshape(places, (-1,)) if len(rows.shape) == 1 else places
            element = self.reshape(self.take_along(rows, places, -1), size)
            after = (element > values if right else element >= values) | (low == high)
            low = self.where(after, low, middle + 1)
            high = self.where(after, middle, high)
        return low

    def bincount(self, counts: Array, x: Array, weights: Array | None) -> Array:
        """Add to counts, in place, how often each int from 0 on is in a vector x; or the sums of
        its weights. Returns `counts`."""
        if weights is None:
            weights = self.ones(tuple(x.shape), counts.dtype)
        return self.index_add(counts, (x,), weights)

    def running_extreme(self, x: Array, axis: int, largest: bool) -> Array:
        """int64 places of the largest (or smallest) along the axis up to each element: of the last
        of equal ones, and the last NaN if there is one. A doubling scan (Hillis and Steele 1986) of
        pairs of a value and its place."""
        axis %= len(x.shape)
        n, step = x.shape[axis], 1
        size = tuple(n if i == axis else 1 for i in range(len(x.shape)))
        places = self.reshape(self.arange(0, n, 1, int64.numpy), size)
        places = self.copy(self.broadcast_to(places, tuple(x.shape)))
        before: tuple[Index, ...] = (slice(None),) * axis
        first: tuple[Index, ...]
        while step < n:
            first = (*before, slice(0, step))
            behind, ahead = (*before, slice(0, n - step)), (*before, slice(step, n))
            later, earlier = self.getitem(x, ahead), self.getitem(x, behind)
            takes = later >= earlier if largest else later <= earlier
            takes = takes | (later != later)
            x, places = (
                self.concatenate(
                    [
                        self.getitem(whole, first),
                        self.where(takes, self.getitem(whole, ahead), self.getitem(whole, behind)),
                    ],
                    axis,
                )
                for whole in (x, places)
            )
            step *= 2
        return places

    def cumprod(self, x: Array, axis: int) -> Array:
        axis %= len(x.shape)
        if x.dtype.kind in "biu":
            x = self.astype(x, INT64)
        before: tuple[Index, ...] = (slice(None),) * axis
        parts: list[Array] = []
        for i in range(x.shape[axis]):
            part = self.getitem(x, (*before, slice(i, i + 1)))
            parts.append(parts[-1] * part if parts else part)
        return self.concatenate(parts, axis) if parts else x

    # Sliding windows; those of many axes (im2col) are what convolution and pooling stand on -----

    def sliding_window(self, x: Array, axis: int, size: int, step: int) -> Array:
        """Windows of `size` along `axis`, one at each `step`. The axis then counts windows, and the
        elements of a window are a new last axis."""
        n = len(x.shape)
        picked = self.getitem(x, sliding_window_at(self, x.shape, axis, size, step))
        return self.permute(picked, (*range(axis + 1), *range(axis + 2, n + 1), axis + 1))

    def as_strided(
        self, x: Array, size: tuple[int, ...], stride: tuple[int, ...], offset: int
    ) -> Array:
        """The result at (i, j, ...) is element offset + i * stride[0] + j * stride[1] + ... of x in
        row-major order."""
        flat = self.reshape(x, (math.prod(x.shape),))
        return self.reshape(self.getitem(flat, (strided_at(self, size, stride, offset),)), size)

    def unfold(
        self,
        x: Array,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Array:
        """Copy all windows of x (N, C, *spatial): (N, C, prod(kernel), *windows)."""
        parts = [self.getitem(x, i) for i in windows(x.shape[2:], kernel, stride, dilation)]
        return self.stack(parts, 2)

    def fold(
        self,
        x: Array,
        shape: Shape,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Array:
        """The adjoint of `unfold`: sum windows (N, C, prod(kernel), *windows) to `shape` = (N, C,
        *spatial)."""
        out = self.zeros(tuple(shape), x.dtype)
        for k, index in enumerate(windows(shape[2:], kernel, stride, dilation)):
            part = self.getitem(x, (slice(None), slice(None), k))
            out = self.assign(out, index, self.getitem(out, index) + part)
        return out


def _count(shape: Shape, axis: Axis) -> int:
    """The number of elements that a reduction over `axis` combines."""
    return math.prod(shape) if axis is None else math.prod(shape[a] for a in axes(axis))


def axes(axis: int | tuple[int, ...]) -> tuple[int, ...]:
    """An axis argument as a tuple."""
    return axis if isinstance(axis, tuple) else (axis,)


def windows(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Iterator[tuple[slice, ...]]:
    """For each kernel offset, the index of its element in all windows of (N, C, *size)."""
    spans = [
        (n - d * (k - 1) - 1) // s * s + 1
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    for offset in itertools.product(*(range(k) for k in kernel)):
        starts = [o * d for o, d in zip(offset, dilation, strict=True)]
        yield (slice(None), slice(None)) + tuple(
            slice(a, a + span, s) for a, span, s in zip(starts, spans, stride, strict=True)
        )


def _scaled_variance(
    be: ShapeDefaults[Array], x: Array, axis: Axis, correction: float, keepdims: bool
) -> tuple[Array, Array]:
    """The variance of x / scale, and scale: the largest distance from the mean. So no square
    overflows."""
    count = _count(x.shape, axis)
    centred = x - be.mean(x, axis, True)
    scale = be.max(be.abs(centred), axis, True) if count else be.sum(centred, axis, True)
    scale = be.where((scale > 0) & (scale < math.inf), scale, be.full((), 1, x.dtype))
    centred = centred / scale
    rest = be.sum(centred, axis, keepdims)  # not exactly 0, as the mean was rounded
    total = be.sum(centred * centred, axis, keepdims) - rest * rest / max(count, 1)
    total = be.maximum(total, be.full((), 0, total.dtype))
    freedom = be.full((), max(count - correction, 0), total.dtype)
    return total / freedom, be.reshape(scale, total.shape)
