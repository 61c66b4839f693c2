"""`nn.parallel.scatter_gather`: batches split over devices, of which there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd.trees import leaves_of, rebuilt
from gradient.errors import ArgumentError, sentence
from gradient.tensor import Tensor

__all__ = ["gather", "scatter", "scatter_kwargs"]


def scatter(inputs: Any, target_gpus: Sequence[Any], dim: int = 0) -> list[Any]:
    """The inputs, with their tensors on the one device, in a list."""
    if len(target_gpus) != 1:
        raise ArgumentError(sentence("scatter", "one device", list(target_gpus)))
    device = f"cuda:{target_gpus[0]}" if isinstance(target_gpus[0], int) else target_gpus[0]
    leaves = [x.to(device) if isinstance(x, Tensor) else x for x in leaves_of(inputs)]
    return [rebuilt(inputs, leaves)]


def scatter_kwargs(
    inputs: tuple[Any, ...], kwargs: dict[str, Any] | None, target_gpus: Sequence[Any], dim: int = 0
) -> tuple[tuple[Any, ...], tuple[dict[str, Any], ...]]:
    """`scatter` of positional and of keyword arguments."""
    return tuple(scatter(inputs, target_gpus, dim)), tuple(scatter(kwargs or {}, target_gpus, dim))


def gather(outputs: Sequence[Any], target_device: Any, dim: int = 0) -> Any:
    """The outputs of the one device."""
    if len(outputs) != 1:
        raise ArgumentError(sentence("gather", "the outputs of one device", len(outputs)))
    return outputs[0]
