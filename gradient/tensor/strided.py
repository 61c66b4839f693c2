"""as_strided: select elements of a tensor's memory by strides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradient.autograd.modes import mode
from gradient.autograd.variable import wrap
from gradient.errors import ShapeError, sentence
from gradient.ops import comparison, index, shape
from gradient.tensor.arguments import int_of, ints_of, tensor_of
from gradient.tensor.views import view_of, with_bases, without_base

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor


class Layout(NamedTuple):
    """Sizes, strides and offset: element (i, j) is element offset + i * stride[0] + j * stride[1]
    of the memory."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def last(self) -> int:
        """Return the last position in memory, if there are elements."""
        steps = zip(self.size, self.stride, strict=True)
        return self.offset + sum((n - 1) * step for n, step in steps)

    def places(self) -> np.ndarray:
        """Return the position of each element in memory."""
        found = np.full((), self.offset)
        for n, step in zip(self.size, self.stride, strict=True):
            found = found[..., None] + np.arange(n) * step
        return found


def as_strided(
    x: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None
) -> Tensor:
    """`Tensor.as_strided`"""
    wanted = _layout("as_strided", x, size, stride, storage_offset)
    own, is_empty = _own_layout(x), 0 in wanted.size
    first = own.offset if is_empty else wanted.offset
    last = own.offset - 1 if is_empty else wanted.last()
    if x.is_contiguous() and own.offset <= first and last < own.offset + x.numel():
        return _view(x, wanted._replace(offset=wanted.offset - own.offset))
    *_, owner = (
        base for base in with_bases(x) if base.dtype is x.dtype and base.backend is x.backend
    )  # for z.real, the real base; in `vmap`, the sample's
    whole, start = owner.is_contiguous(), owner.storage_offset()
    if whole and not start <= first <= last < start + owner.numel() and not is_empty:
        outside = first if first < start else last
        expected = f"places in memory of {start + owner.numel()} elements"
        raise ShapeError(sentence("as_strided", expected, f"place {outside}"))
    if whole and not (mode.grad and (x.requires_grad or owner.requires_grad)):
        return _view(owner, wanted._replace(offset=wanted.offset - start))
    places = wanted.places()
    at = _numbers(places, own)
    if not whole and at.min(initial=0) < 0:
        raise ShapeError(
            "as_strided: expected places of the tensor's own elements, as its memory is not in "
            "row-major order; use contiguous() first"
        )
    out = _taken(_sharing(x, own), np.maximum(at, 0))
    if at.min(initial=0) < 0:
        inside = x.backend.asarray(at >= 0)
        out = comparison.where(out, _taken(owner.detach(), places - start), condition=inside)
    out.view_info = (x, None, {})  # so that a write raises if it would lose a gradient
    return out


def as_strided_scatter(
    x: Any, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None
) -> Tensor:
    """`Tensor.as_strided_scatter`"""
    wanted = _layout("as_strided_scatter", x, size, stride, storage_offset)
    if tuple(tensor_of("as_strided_scatter", src).shape) != wanted.size:
        expected = f"src of shape {wanted.size}"
        raise ShapeError(sentence("as_strided_scatter", expected, tuple(src.shape)))
    own, places = _own_layout(x).places(), wanted.places()
    if places.size > len(np.unique(places)):
        expected = "a size and strides that take no element twice"
        raise ShapeError(
            sentence("as_strided_scatter", expected, f"{wanted.size}, {wanted.stride}")
        )
    if places.max(initial=0) > own.max(initial=0):
        expected = f"places up to {own.max(initial=0)}, the tensor's last"
        raise ShapeError(sentence("as_strided_scatter", expected, places.max()))
    at = _numbers(own, wanted)
    if at.max(initial=-1) < 0:
        return x.clone()
    written = _taken(src.to(x.dtype), np.maximum(at, 0))
    return comparison.where(written, x, condition=x.backend.asarray(at >= 0))


def _layout(caller: str, x: Any, size: Any, stride: Any, offset: Any) -> Layout:
    """Check the arguments; return them as a Layout."""
    sizes = tuple(ints_of(caller, "size", size))
    steps = tuple(ints_of(caller, "stride", stride))
    start = x.storage_offset() if offset is None else int_of(caller, "storage_offset", offset)
    if len(sizes) != len(steps):
        got = f"{sizes} and {steps}"
        raise ShapeError(sentence(caller, "as many strides as sizes", got))
    if min((*sizes, *steps, start)) < 0:
        got = f"{sizes}, {steps} and {start}"
        raise ShapeError(sentence(caller, "sizes, strides and an offset of at least 0", got))
    return Layout(sizes, steps, start)


def _own_layout(x: Any) -> Layout:
    return Layout(tuple(x.shape), x.stride(), x.storage_offset())


def _view(x: Any, layout: Layout) -> Tensor:
    """Return the elements of x at a layout, in row-major order, as a view."""
    options: dict[str, Any] = {
        "size": layout.size,
        "stride": layout.stride,
        "offset": layout.offset,
    }
    return view_of(x, shape.as_strided(x, **options), shape.as_strided, options)


def _numbers(places: np.ndarray, layout: Layout) -> np.ndarray:
    """Return, for each position in memory, the number of the layout's element there, in row-major
    order: the last one if there are several, -1 if there is none."""
    known = layout.places().reshape(-1)
    top = max(int(places.max(initial=-1)), int(known.max(initial=-1))) + 1
    found = np.full(top, -1)
    found[known] = np.arange(len(known))
    return found[places]


def _sharing(x: Any, own: Layout) -> Tensor:
    """Return x. If several elements share one position in memory, as in an expanded tensor, each
    gets the same share of the gradient, as in PyTorch."""
    known = own.places().reshape(-1)
    unique, back, counts = np.unique(known, return_inverse=True, return_counts=True)
    if len(unique) == len(known) or not (mode.grad and x.requires_grad):
        return x
    flat = x.reshape(len(known))
    backend = x.backend
    total = flat.new_zeros(len(unique)).index_add(0, wrap(backend.asarray(back), backend), flat)
    mean = _taken(total / wrap(backend.asarray(counts), backend).to(x.dtype), back)
    return without_base((flat.detach() + (mean - mean.detach())).reshape(x.shape))


def _taken(x: Any, places: np.ndarray) -> Tensor:
    """Select elements of x by their numbers in row-major order."""
    flat = x.reshape(math.prod(x.shape))
    return without_base(index.getitem(flat, index=(x.backend.asarray(places),)))
