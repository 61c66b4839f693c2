"""Losses that compare embeddings with each other."""

from __future__ import annotations

from collections.abc import Callable

from gradient.autograd.autocast import autocasts
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite
from gradient.functional.distance import pairwise_distance
from gradient.functional.reduction import reduced, takes_retired_arguments
from gradient.ops import comparison
from gradient.tensor import Tensor
from gradient.tensor.arguments import flag_of, number_of
from gradient.tensor.creation_like import zeros_like
from gradient.tensor.joining import where

__all__ = [
    "cosine_embedding_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


@autocasts("float32")
@takes_retired_arguments
@composite
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    *,
    reduction: str = "mean",
) -> Tensor:
    """`1 - cos` where t = 1, `max(0, cos - margin)` where t = -1: cos is the cosine similarity of
    input1 and input2, (N, D) or (D,), and t is (N,) or ()."""
    if (input1.ndim, input2.ndim, target.ndim) not in ((1, 1, 0), (2, 2, 1)):
        expected = "inputs (N, D) with a target (N,), or (D,) with ()"
        got = f"{tuple(input1.shape)}, {tuple(input2.shape)} and {tuple(target.shape)}"
        raise ShapeError(sentence("cosine_embedding_loss", expected, got))
    # eps inside the root, as PyTorch has it here: not `cosine_similarity`'s bound on the norms
    eps = 1e-12
    dots = (input1 * input2).sum(-1)
    squares = ((input1 * input1).sum(-1) + eps) * ((input2 * input2).sum(-1) + eps)
    cosine = dots / squares.sqrt()
    zero = zeros_like(cosine.detach())
    losses = where(target == 1, 1 - cosine, zero) + where(
        target == -1, (cosine - margin).clamp(min=0.0), zero
    )
    return reduced("cosine_embedding_loss", losses, reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """`max(0, -t (x1 - x2) + margin)`, elementwise: x1 should be larger where t = 1, smaller where
    t = -1."""
    ranks = {input1.ndim, input2.ndim, target.ndim}
    if len(ranks) > 1:
        got = f"{input1.ndim}, {input2.ndim} and {target.ndim}"
        expected = "input1, input2 and target of as many dimensions"
        raise ShapeError(sentence("margin_ranking_loss", expected, got))
    losses = (-target * (input1 - input2) + margin).clamp(min=0.0)
    return reduced("margin_ranking_loss", losses, reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """`max(0, d(anchor, positive) - d(anchor, negative) + margin)` (Balntas et al. 2016).

    With `swap`, the smaller of d(anchor, negative) and d(positive, negative) is used.
    """

    flag_of("triplet_margin_loss", "swap", swap)
    number_of("triplet_margin_loss", "p", p), number_of("triplet_margin_loss", "eps", eps)

    def distance(first: Tensor, second: Tensor) -> Tensor:
        return pairwise_distance(first, second, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap,
        reduction=reduction,
    )  # fmt: skip


@composite
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any `distance_function`, by default `pairwise_distance`."""
    op = "triplet_margin_loss"
    if margin <= 0:
        raise ArgumentError(sentence(op, "margin greater than 0", margin))
    if not anchor.ndim == positive.ndim == negative.ndim:
        got = f"{anchor.ndim}, {positive.ndim} and {negative.ndim}"
        expected = "anchor, positive and negative of as many dimensions"
        raise ShapeError(sentence(op, expected, got))
    distance = distance_function or pairwise_distance
    far = distance(anchor, negative)
    if swap:
        far = comparison.minimum(far, distance(positive, negative))
    losses = (margin + distance(anchor, positive) - far).clamp(min=0.0)
    return reduced("triplet_margin_loss", losses, reduction)
