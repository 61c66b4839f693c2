"""Ops of 0-d CPU tensors and tensors on another device: the former count as numbers (PyTorch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.autograd.variable import Variable
from gradient.errors import DeviceError, sentence

__all__ = ["apart", "on_one_device", "placed_apart"]

among_samples: list[Callable[..., list[Any] | None]] = []
"""Empty until `vmap` is imported; then returns the inputs of a failed call as tensors that are all
seen by one `vmap`, or None if they are already (`gradient.func.samples`)."""


def on_one_device(inputs: Sequence[Any], options: Any = None) -> list[Any] | None:
    """Return the inputs of a failed call, with 0-d CPU tensors copied to the other tensors' device,
    and in `vmap`, with tensors that all samples share; None if it failed for another reason. The
    gradients of the copies go back to the CPU."""
    if among_samples and (seen := among_samples[0](inputs, options)) is not None:
        return seen
    tensors: list[Any] = [each for each in inputs if isinstance(each, Variable)]
    others = {each.backend for each in tensors if each.backend.device != "cpu"}
    numbers = [each for each in tensors if each.backend.device == "cpu"]
    if len(others) != 1 or not numbers or any(each.array.ndim for each in numbers):
        return None
    (backend,) = others
    moved = {id(each): each.to(backend.device) for each in numbers}
    return [moved.get(id(each), each) for each in inputs]


def placed_apart(caller: str, condition: Any, input: Any, other: Any) -> list[Any] | None:
    """Return the arguments of `where`, with 0-d CPU tensors copied to the other tensors' device;
    None if all are on one device. Other mixed devices raise DeviceError."""
    backend = condition.backend
    if (not isinstance(input, Variable) or input.backend is backend) and (
        not isinstance(other, Variable) or other.backend is backend
    ):
        return None
    if (placed := on_one_device((condition, input, other))) is None:
        raise apart(caller, (condition, input, other))
    return placed


def apart(caller: str, inputs: Sequence[Any]) -> DeviceError:
    """Return the error for tensors on several devices."""
    got = " and ".join(sorted({x.backend.device for x in inputs if isinstance(x, Variable)}))
    return DeviceError(sentence(caller, "all tensors on one device", got, "move one with .to()"))
