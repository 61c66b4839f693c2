"""0-d tensors of the CPU beside tensors of another device: they count as numbers, as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd.variable import Variable

__all__ = ["on_one_device"]


def on_one_device(inputs: Sequence[Any]) -> list[Any] | None:
    """The inputs of a call that failed, with 0-d tensors of the CPU copied to the one device of the
    others; None if it failed for another reason. The copies' gradients go back to the CPU."""
    tensors: list[Any] = [each for each in inputs if isinstance(each, Variable)]
    others = {each.backend for each in tensors if each.backend.device != "cpu"}
    numbers = [each for each in tensors if each.backend.device == "cpu"]
    if len(others) != 1 or not numbers or any(each.array.ndim for each in numbers):
        return None
    (backend,) = others
    moved = {id(each): each.to(backend.device) for each in numbers}
    return [moved.get(id(each), each) for each in inputs]
