"""Sums, means and maxima of bags of embeddings."""

from __future__ import annotations

import math

from gradient.errors import ArgumentError, DTypeError, NotAvailable, ShapeError, sentence
from gradient.functional.arguments import composite, one_dtype
from gradient.functional.linear import embedding
from gradient.tensor import Tensor
from gradient.tensor.arguments import INDICES
from gradient.tensor.creation import arange
from gradient.tensor.creation_like import ones_like

__all__ = ["embedding_bag"]


@composite
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The "sum", "mean" or "max" (`mode`) of the rows of `weight` (V, D) in each bag: (B, D).

    Bags are the rows of the integers `input` (B, N), or consecutive parts of `input` (N,). In the
    second case `offsets` (B,) holds the start of each bag; with `include_last_offset` it is
    (B + 1,), and its last number is the end of the last bag. An empty bag gives zeros, and
    `padding_idx` is left out.
    `per_sample_weights`, of the input's shape, multiply the rows of a "sum". With
    `scale_grad_by_freq`, the gradient of a row is divided by its number of occurrences in `input`.
    """
    op = "embedding_bag"
    if sparse:
        raise ArgumentError(f"{op}: sparse gradients are not available")
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(sentence(op, "mode in ('sum', 'mean', 'max')", repr(mode)))
    if scale_grad_by_freq and mode == "max":
        raise ArgumentError(sentence(op, "mode 'sum' or 'mean' with scale_grad_by_freq", "'max'"))
    if per_sample_weights is not None:
        if mode != "sum":
            raise NotAvailable(sentence(op, "mode 'sum' with per_sample_weights", repr(mode)))
        if tuple(per_sample_weights.shape) != tuple(input.shape):
            expected = f"per_sample_weights of the input's shape {tuple(input.shape)}"
            raise ShapeError(sentence(op, expected, tuple(per_sample_weights.shape)))
        one_dtype(op, weight, per_sample_weights=per_sample_weights)
        per_sample_weights = per_sample_weights.reshape(-1)
    bag, count = _bags(op, input, offsets, include_last_offset)
    size = input.shape[1] if input.ndim == 2 and padding_idx is None else 0  # if all have the same
    input = input.reshape(-1)
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            expected = f"padding_idx from {-weight.shape[0]} to {weight.shape[0] - 1}"
            raise ArgumentError(sentence(op, expected, padding_idx))
        padding_idx %= weight.shape[0]
    rows = embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)  # (N, D)
    if padding_idx is not None:
        kept = (input != padding_idx).nonzero()[:, 0]
        rows, bag = rows.index_select(0, kept), bag.index_select(0, kept)
        if per_sample_weights is not None:
            per_sample_weights = per_sample_weights.index_select(0, kept)
    if mode == "max":
        return _largest(rows, bag, count)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    if size:
        bags = rows.reshape(count, size, rows.shape[1])
        return bags.sum(1) if mode == "sum" else bags.mean(1)
    total = rows.new_zeros((count, rows.shape[1])).index_add(0, bag, rows)
    if mode == "sum":
        return total
    ones = rows.detach().new_ones(rows.shape[0])
    sizes = ones.new_zeros(count).index_add(0, bag, ones).clamp(min=1)
    return total / sizes.unsqueeze(1)


def _bags(
    op: str, input: Tensor, offsets: Tensor | None, include_last_offset: bool
) -> tuple[Tensor, int]:
    """The number of each element's bag, and how many bags there are."""
    if input.array.dtype not in INDICES:
        raise DTypeError(sentence(op, "an input of int64 or int32", input.dtype))
    if input.ndim == 2:
        if offsets is not None:
            raise ArgumentError(f"{op}: an input (B, N) has rows as bags, and takes no offsets")
        count, size = input.shape
        return arange(count, device=input.device).repeat_interleave(size), count
    if input.ndim != 1 or offsets is None or offsets.ndim != 1:
        expected = "an input (B, N), or (N,) with offsets (B,)"
        got = (
            tuple(input.shape) if offsets is None else f"{tuple(input.shape)} and {offsets.ndim}-d"
        )
        raise ShapeError(sentence(op, expected, got))
    if include_last_offset and not offsets.shape[0]:
        raise ArgumentError(f"{op}: include_last_offset=True needs an offset")
    size, be = input.shape[0], offsets.backend
    be.check_range(offsets[:1].array, 0, 0, op, "a first offset")
    be.check_range(offsets.array, 0, size, op, "offsets")
    be.check_range(offsets.diff().array, 0, size, op, "offsets that do not fall, with differences")
    starts = offsets[:-1] if include_last_offset else offsets
    if size and not starts.shape[0]:
        expected = f"the offset of at least one bag for an input of {size}"
        raise ArgumentError(sentence(op, expected, "none"))
    # How many bags have begun at each place. With include_last_offset, what is behind the last
    # offset is of no bag. It is added to the last one, as by PyTorch in float64, whose float32
    # kernels leave it out of sums, but divide a mean by its number too.
    begun = starts.new_zeros(size + 1).index_add(0, starts, ones_like(starts)).cumsum(0)[:size]
    return (begun - 1).clamp(min=0), starts.shape[0]


def _largest(rows: Tensor, bag: Tensor, count: int) -> Tensor:
    """The largest of each bag, by column, NaN where there is one; its gradient goes to the first
    of equals."""
    size = rows.shape[1]
    if not rows.shape[0]:
        return rows.new_zeros((count, size)) + rows.sum()
    index = bag.unsqueeze(1).expand(rows.shape)
    least = rows.detach().new_full((count, size), -math.inf)
    most = least.scatter_reduce(0, index, rows.detach(), "amax")
    places = arange(rows.shape[0], device=rows.device).unsqueeze(1).expand(rows.shape)
    chosen = (rows.detach() == most.index_select(0, bag)) | rows.detach().isnan()
    places = places.masked_fill(~chosen, rows.shape[0])
    none = places.new_full((count, size), rows.shape[0])
    first = none.scatter_reduce(0, index, places, "amin")
    empty = first == rows.shape[0]
    return rows.gather(0, first.masked_fill(empty, 0)).masked_fill(empty, 0)
