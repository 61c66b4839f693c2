"""Indexing, gather and scatter. An index is a tuple in the form that `Backend.getitem` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op
from gradient.dtypes import HALF_PRECISION, float32

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradient.backends import Array, Backend


@op(
    lambda g, be, x_shape, index: be.place(g, x_shape, index),
    public_name="index",
    moves="codes",
    only_strides=True,  # for views: an index with arrays makes a copy
    takes_complex=True,
    part="index",
)
def getitem(be: Backend[Array], x: Array, /, index: Any) -> Array:
    """x[index]; a view if the index has no arrays."""
    return be.getitem(x, index)


@op(
    lambda g, be, x_shape, mask: be.place(g, x_shape, (mask,)),
    public_name="index",
    moves="codes",
    takes_complex=True,
)
def compress(be: Backend[Array], x: Array, /, *, mask: Any) -> Array:
    """x[mask], for a mask of x's shape."""
    return be.compress(x, mask)


@op(
    lambda g, be, x_shape, index, axis: be.place(g, x_shape, (slice(None),) * axis + (index,)),
    public_name="index_select",
    moves="codes",
    takes_complex=True,
)
def select(be: Backend[Array], x: Array, /, *, index: Any, axis: int) -> Array:
    """The slices of an axis at a vector of int64 indices."""
    return be.select(x, index, axis)


@op(lambda g, be, index: be.getitem(g, index), takes_complex=True)
def place(be: Backend[Array], x: Array, /, *, shape: tuple[int, ...], index: Any) -> Array:
    """Zeros of `shape` with x added at `index`: the transpose of getitem."""
    return be.place(x, shape, index)


@op(lambda g, be, index: cleared(be, g, index),
    lambda g, be, index: be.getitem(g, index),
    promotion="none", takes_complex=True)  # fmt: skip
def setitem(be: Backend[Array], x: Array, value: Array, /, *, index: Any) -> Array:
    """A copy of x in which x[index] is `value`."""
    return be.assign(be.copy(x), index, value)


def cleared(be: Backend, g: Any, index: Any) -> Any:
    if isinstance(index, tuple) and all(map(_takes_all, index)):  # all elements were overwritten
        return be.zeros_like(g)
    return be.assign(be.copy(g), index, be.full((), 0, g.dtype))


def _takes_all(item: Any) -> bool:
    """Whether an item of an index takes all of an axis, or adds one: `:`, `...` or None."""
    return item is None or item is Ellipsis or (isinstance(item, slice) and item == slice(None))


@op(lambda g: g,
    lambda g, be, index: picked(be, g, index),
    promotion="none", takes_complex=True)  # fmt: skip
def index_add(be: Backend[Array], x: Array, value: Array, /, *, index: Any) -> Array:
    """A copy of x with `value` added at `index`; repeated indices accumulate."""
    return be.index_add(be.copy(x), index, value)


def picked(be: Backend, g: Any, index: Any) -> Any:
    if len(index) == 1 and len(g.shape) == 2 and hasattr(index[0], "dtype"):
        return be.rows(g, index[0])
    return be.getitem(g, index)


@op(lambda g, be, x_shape, index, axis:
    be.put_along(be.cleared(x_shape, g.dtype), index, g, axis, True),
    public_name="gather", takes_complex=True)  # fmt: skip
def take_along(be: Backend[Array], x: Array, /, *, index: Any, axis: int) -> Array:
    """PyTorch's gather: out[i][j] = x[index[i][j]][j] for axis 0."""
    return be.take_along(x, index, axis)


@op(lambda g, be, x_shape, index, axis: picked_grad(be, g, x_shape, index, axis),
    public_name="gather", takes_complex=True)  # fmt: skip
def pick(be: Backend[Array], x: Array, /, *, index: Any, axis: int) -> Array:
    """Pick one element along `axis` at each position of the other axes, such as the argmax.
    `index` has the axis with size 1 or does not have it; the result has the same shape."""
    return be.pick(x, index, axis)


def picked_grad(be: Backend, g: Any, shape: tuple[int, ...], index: Any, axis: int) -> Any:
    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    at, grad = be.reshape(index, kept), be.reshape(g, kept)
    return be.put_along(be.cleared(shape, g.dtype), at, grad, axis, True)


@op(lambda g, be, index, axis, add: g if add else
        be.put_along(be.copy(g), index, be.zeros(index.shape, g.dtype), axis, False),
    lambda g, be, index, axis: be.take_along(g, index, axis),
    promotion="none", public_name="scatter", takes_complex=True)  # fmt: skip
def put_along(
    be: Backend[Array],
    x: Array,
    value: Array,
    /,
    *,
    index: Any,
    axis: int,
    add: bool,
) -> Array:
    """PyTorch's scatter, or with `add` scatter_add; `value` has the shape of `index`."""
    return be.put_along(be.copy(x), index, value, axis, add)


IN_PLACE: dict[Any, Callable[..., Any]] = {
    setitem: lambda be, x, value, *, index: be.assign(x, index, value),
    index_add: lambda be, x, value, *, index: be.index_add(x, index, value),
    put_along: lambda be, x, value, *, index, axis, add: be.put_along(x, index, value, axis, add),
}
"""What these ops do to a copy of x, for writes to x itself; they return x's array."""


@op(lambda g, be, x, index, src, out, axis, combine, include_self:
        be.reduce_along_grad(g, x, index, src, out, axis, combine, include_self),
    promotion="none", public_name="scatter_reduce", takes_complex=True)  # fmt: skip
def reduce_along(
    be: Backend[Array],
    x: Array,
    src: Array,
    /,
    *,
    index: Any,
    axis: int,
    combine: str,
    identity: float,
    include_self: bool,
) -> Array:
    """PyTorch's scatter_reduce by "multiply", "maximum" or "minimum"; `src` has the index's shape.
    Without `include_self` x is `identity` where the index says a place."""
    return be.reduce_along(x, index, src, axis, combine, identity)


@op(lambda g, be, weight_shape, indices, padding_idx, scale_grad_by_freq:
    embedding_grad(be, g, indices, weight_shape[0], padding_idx, scale_grad_by_freq),
    packed="weight")  # fmt: skip
def embedding(
    be: Backend[Array],
    weight: Array,
    /,
    *,
    indices: Any,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
) -> Array:
    """Rows of `weight` (V, D) at int64 `indices` (...): (..., D)."""
    return be.embedding(weight, indices)


def embedding_grad(
    be: Backend, g: Any, indices: Any, rows: int, padding_idx: int | None, by_freq: bool
) -> Any:
    if not by_freq:
        gw = be.embedding_grad(g, indices, rows)
    else:  # divide the gradient of each row by the number of times it was used
        wide = float32.numpy if g.dtype in HALF_PRECISION else g.dtype
        counts = be.embedding_grad(be.full((*indices.shape, 1), 1, wide), indices, rows)
        g_over = be.astype(g, wide) / be.embedding(counts, indices)
        gw = be.astype(be.embedding_grad(g_over, indices, rows), g.dtype)
    return gw if padding_idx is None else be.assign(gw, (padding_idx,), be.full((), 0, gw.dtype))
