"""Ops that move elements without changing them. The engine sums gradients over broadcast axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op
from gradient.backends.composed.shared import diagonal_at, sliding_window_at, strided_at

if TYPE_CHECKING:
    from gradient.backends import Array, Backend

Indices = list[tuple[Any, ...]]
"""The indices of several views."""

FEW = 256
"""Up to this number of views, indices are cached: a model needs the same ones in each step."""


@op(lambda g, be, x_shape: be.reshape(g, x_shape), moves="codes", takes_complex=True)
def reshape(be: Backend[Array], x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape; a view if the strides allow it."""
    return be.reshape(x, shape)


@op(
    lambda g, be, axes: be.permute(g, inverse(axes)),
    moves="codes",
    only_strides=True,
    takes_complex=True,
)
def permute(be: Backend[Array], x: Array, /, axes: tuple[int, ...]) -> Array:
    """Axes in another order; a view."""
    return be.permute(x, axes)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of the permutation `axes`."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


@op(lambda g: g, public_name="expand", moves="codes", only_strides=True, takes_complex=True)
def broadcast_to(be: Backend[Array], x: Array, /, shape: tuple[int, ...]) -> Array:
    """Repeat x along new axes and axes of size 1; a view."""
    return be.broadcast_to(x, shape)


@op(
    lambda g, be, shapes, axis: pieces(be, g, [s[axis] for s in shapes], axis),
    public_name="cat",
    expected_shapes="tensors of one shape but for the dimension that they are joined along",
    moves="codes",
    takes_complex=True,
)
def concatenate(be: Backend[Array], /, *arrays: Array, axis: int) -> Array:
    """Join arrays along `axis`."""
    return be.concatenate(list(arrays), axis)


@op(
    lambda g, be, shapes, axis: slices(be, g, len(shapes), axis),
    expected_shapes="tensors of one shape",
    moves="codes",
    takes_complex=True,
)
def stack(be: Backend[Array], /, *arrays: Array, axis: int) -> Array:
    """Join arrays of one shape along a new axis `axis`."""
    return be.stack(list(arrays), axis)


@op(lambda g, be, axis: be.stack(g, axis), moves="codes", takes_complex=True)
def unbind(be: Backend[Array], x: Array, /, *, indices: Indices, axis: int) -> list[Array]:
    """The slices along `axis`, without it, at their indices (`slice_indices`): views."""
    return list(map(partial(be.getitem, x), indices))


def slices(be: Backend, x: Any, count: int, axis: int) -> list[Any]:
    return [be.getitem(x, at) for at in slice_indices(count, axis)]


def slice_indices(count: int, axis: int) -> Indices:
    """The indices of views of one slice each. If there are few, the list is cached and shared: do
    not change it."""
    return _slice_indices(count, axis) if count <= FEW else _slice_indices.__wrapped__(count, axis)


@functools.lru_cache
def _slice_indices(count: int, axis: int) -> Indices:
    before: tuple[Any, ...] = (slice(None),) * axis
    return [(*before, i, Ellipsis) for i in range(count)]


@op(lambda g, be, axis: be.joined(g, axis), moves="codes", takes_complex=True)
def split(be: Backend[Array], x: Array, /, *, indices: Indices, axis: int) -> list[Array]:
    """Consecutive pieces along `axis`, at their indices (`piece_indices`): views."""
    return list(map(partial(be.getitem, x), indices))


def pieces(be: Backend, x: Any, sizes: Any, axis: int) -> list[Any]:
    return [be.getitem(x, at) for at in piece_indices(sizes, axis)]


def piece_indices(sizes: Sequence[int], axis: int) -> Indices:
    """The indices of consecutive pieces of given sizes; cached like those of `slice_indices`."""
    of_few = _piece_indices if len(sizes) <= FEW else _piece_indices.__wrapped__
    return of_few(tuple(sizes), axis)


def even_indices(n: int, each: int, axis: int) -> Indices:
    """The indices of pieces of `each` of n elements; the last piece may be smaller."""
    of_few = _even_indices if n <= FEW * each else _even_indices.__wrapped__
    return of_few(n, each, axis)


@functools.lru_cache
def _even_indices(n: int, each: int, axis: int) -> Indices:
    return piece_indices([min(each, n - start) for start in range(0, n, each)] or [0], axis)


@functools.lru_cache
def _piece_indices(sizes: tuple[int, ...], axis: int) -> Indices:
    before: tuple[Any, ...] = (slice(None),) * axis
    indices, start = [], 0
    for size in sizes:
        indices.append((*before, slice(start, start + size)))
        start += size
    return indices


@op(lambda g, be, axis: be.flip(g, axis), takes_complex=True)
def flip(be: Backend[Array], x: Array, /, *, axis: tuple[int, ...]) -> Array:
    """Reversed along the axes of the tuple `axis`; a copy."""
    return be.copy(be.flip(x, axis))


@op(lambda g, be, by, axis: be.roll(g, g.shape[axis] - by, axis), takes_complex=True)
def roll(be: Backend[Array], x: Array, /, *, by: int, axis: int) -> Array:
    """Rotated along `axis` by 0 < `by` < its size; a copy."""
    return be.roll(x, by, axis)


@op(lambda g, be, widths: be.getitem(g, unpadded(g.shape, widths)), takes_complex=True)
def pad(
    be: Backend[Array], x: Array, /, *, widths: tuple[tuple[int, int], ...], value: complex = 0
) -> Array:
    """Pad x with `value`: `widths` is (before, after) for each axis."""
    return be.pad(x, widths, value)


def unpadded(shape: tuple[int, ...], widths: Any) -> tuple[slice, ...]:
    return tuple(slice(a, n - b) for n, (a, b) in zip(shape, widths, strict=True))


@op(lambda g, be, x_shape, widths, mode: be.pad_around_grad(g, x_shape, widths, mode),
    public_name="pad", takes_complex=True)  # fmt: skip
def pad_around(
    be: Backend[Array], x: Array, /, *, widths: tuple[tuple[int, int], ...], mode: str
) -> Array:
    """Pad x with its own elements: `mode` is "reflect", "replicate" or "circular"."""
    return be.pad_around(x, widths, mode)


@op(
    lambda g, be, x_shape, offset: be.place(g, x_shape, diagonal_at(be, x_shape, offset)),
    takes_complex=True,
)
def diagonal(be: Backend[Array], x: Array, /, *, offset: int = 0) -> Array:
    """The diagonal of the last two axes, as the last axis; a view on backends with strides."""
    return be.diagonal(x, offset)


@op(
    lambda g, be, diagonal, lower: be.triangle(g, diagonal, lower),
    public_name="tril",
    takes_complex=True,
)
def triangle(be: Backend[Array], x: Array, /, *, diagonal: int = 0, lower: bool = True) -> Array:
    """The lower or upper triangle of the last two axes, zero elsewhere."""
    return be.triangle(x, diagonal, lower)


@op(lambda g, be, x_shape, axis, size, step:
    be.place(be.permute(g, last_axis_after(g.shape, axis)), x_shape,
             sliding_window_at(be, x_shape, axis, size, step)), takes_complex=True)  # fmt: skip
def sliding_window(be: Backend[Array], x: Array, /, *, axis: int, size: int, step: int) -> Array:
    """The windows of `size` along `axis`, `step` elements apart; the elements of a window are the
    last axis. A view on backends with strides."""
    return be.sliding_window(x, axis, size, step)


@op(lambda g, be, x_shape, size, stride, offset:
    be.reshape(be.place(be.reshape(g, (math.prod(size),)), (math.prod(x_shape),),
                        (strided_at(be, size, stride, offset),)), x_shape),
    takes_complex=True)  # fmt: skip
def as_strided(
    be: Backend[Array],
    x: Array,
    /,
    *,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
) -> Array:
    """At (i, j, ...) element offset + i * stride[0] + j * stride[1] ... of x in row-major order; a
    view if x is row-major in memory and the backend has strides."""
    return be.as_strided(x, size, stride, offset)


def last_axis_after(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The order of axes that moves the last one behind `axis`."""
    *rest, last = range(len(shape))
    return (*rest[: axis + 1], last, *rest[axis + 1 :])


@op(lambda g, be, x_shape, kernel, stride, dilation:
    be.fold(g, x_shape, kernel, stride, dilation), takes_complex=True)  # fmt: skip
def unfold(
    be: Backend[Array],
    x: Array,
    /,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Array:
    """All windows of x (N, C, *spatial): (N, C, prod(kernel), *windows) (im2col)."""
    return be.unfold(x, kernel, stride, dilation)


@op(lambda g, be, kernel, stride, dilation: be.unfold(g, kernel, stride, dilation),
    takes_complex=True)  # fmt: skip
def fold(
    be: Backend[Array],
    x: Array,
    /,
    *,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Array:
    """Add windows up to an array of `shape` (N, C, *spatial) (col2im)."""
    return be.fold(x, shape, kernel, stride, dilation)
