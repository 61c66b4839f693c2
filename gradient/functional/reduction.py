"""What becomes of a loss's values: their mean, their sum, or themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from gradient.errors import ArgumentError
from gradient.source_lines import warn_user
from gradient.tensor import Tensor

Loss = TypeVar("Loss", bound=Callable[..., Any])


def reduced(op: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ArgumentError(f"{op}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def are_added_up(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> bool:
    """Whether losses of `input` and `target` are but added up, so that an op may do it all: those
    of some numbers of one shape, both of float32 or both of float64, without weights."""
    dtype = input.array.dtype
    return (
        weight is None
        and (reduction == "mean" or reduction == "sum")
        and dtype is target.array.dtype
        and dtype.char in "fd"
        and input.array.shape == target.array.shape
        and 0 not in input.array.shape
    )


def warn_if_broadcast(op: str, input: Tensor, target: Tensor) -> None:
    """(N, 1) against (N,) quietly makes (N, N): the commonest mistake with these losses."""
    if input.shape != target.shape:
        warn_user(
            f"{op}: target size {tuple(target.shape)} differs from input size "
            f"{tuple(input.shape)}; they are broadcast, which is likely to give wrong results"
        )


def takes_retired_arguments(loss: Loss) -> Loss:
    """Let a loss, or the `__init__` of its layer, take the keywords `size_average` and `reduce`,
    which PyTorch had before `reduction` and still takes with a warning. They win over it."""

    @functools.wraps(loss)
    def call(*args: Any, **options: Any) -> Any:
        if options and ("size_average" in options or "reduce" in options):
            mean, reduce = options.pop("size_average", None), options.pop("reduce", None)
            if mean is not None or reduce is not None:
                averaged, whole = mean is None or mean, reduce is None or reduce
                reduction = "none" if not whole else "mean" if averaged else "sum"
                warn_user(
                    f"size_average and reduce are deprecated; use reduction={reduction!r} instead"
                )
                options["reduction"] = reduction
        return loss(*args, **options)

    return cast("Loss", call)
