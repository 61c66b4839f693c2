"""A linear layer and the cross-entropy of its results, as one function."""

from __future__ import annotations

from typing import Any

from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite
from gradient.functional.classification_loss import cross_entropy
from gradient.functional.linear import linear
from gradient.tensor import Tensor

__all__ = ["linear_cross_entropy"]


@composite
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy(linear(input, linear_weight, linear_bias), target)`.

    Args:
        input: (N, in_features) or (in_features,).
        linear_weight: (C, in_features), or (C, d1, ..., in_features) for logits (N, C, d1, ...).
        target, and other arguments: as in `cross_entropy`.
        ignore_index: None: -100; do not give it with probabilities as targets.
        options: a `nn.LinearCrossEntropyOptions`: how PyTorch cuts the batch, which changes nothing
            here.
    """
    op = "linear_cross_entropy"
    if input.ndim not in (1, 2):
        raise ShapeError(sentence(op, "an input of 1 or 2 dimensions", tuple(input.shape)))
    if linear_weight.ndim < 2 or linear_weight.shape[-1] != input.shape[-1]:
        expected = f"linear_weight (C, ..., {input.shape[-1]}), as the input's last size is"
        raise ShapeError(sentence(op, expected, tuple(linear_weight.shape)))
    outs = tuple(linear_weight.shape[:-1])
    if linear_bias is not None and tuple(linear_bias.shape) != outs:
        raise ShapeError(sentence(op, f"linear_bias {outs}", tuple(linear_bias.shape)))
    if len(outs) > 1 and input.ndim == 1:
        expected = f"an input (N, in_features) with linear_weight {tuple(linear_weight.shape)}"
        raise ShapeError(sentence(op, expected, tuple(input.shape)))
    shape = (*input.shape[:-1], *outs)
    if tuple(target.shape) == shape and ignore_index is not None:
        expected = "no ignore_index with probabilities as target"
        raise ArgumentError(sentence(op, expected, ignore_index))
    flat = linear(
        input,
        linear_weight.reshape(-1, linear_weight.shape[-1]),
        None if linear_bias is None else linear_bias.reshape(-1),
    )
    return cross_entropy(
        flat.reshape(shape),
        target,
        weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
