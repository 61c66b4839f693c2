"""What becomes of a loss's values: their mean, their sum, or themselves."""

from __future__ import annotations

from gradient.errors import ArgumentError
from gradient.source_lines import warn_user
from gradient.tensor import Tensor


def reduced(op: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ArgumentError(f"{op}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def warn_if_broadcast(op: str, input: Tensor, target: Tensor) -> None:
    """(N, 1) against (N,) quietly makes (N, N): the commonest mistake with these losses."""
    if input.shape != target.shape:
        warn_user(
            f"{op}: target size {tuple(target.shape)} differs from input size "
            f"{tuple(input.shape)}; they are broadcast, which is likely to give wrong results"
        )
