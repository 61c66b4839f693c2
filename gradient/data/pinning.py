"""Batches in page-locked memory, from which a GPU copies while the host goes on."""

from __future__ import annotations

from typing import Any

from gradient import backends
from gradient.data.collate import each_leaf
from gradient.errors import DeviceError
from gradient.tensor import Tensor


def can_pin(device: str) -> bool:
    """Whether there is a GPU for which memory can be pinned: "" is the first."""
    try:
        return hasattr(backends.get(device or "cuda"), "pin")
    except DeviceError:
        return False


def pinned(batch: Any, device: str) -> Any:
    """A batch with its tensors of the CPU in pinned memory. What is no tensor and has a method
    `pin_memory`, such as a batch of a class of one's own, is asked for what it returns."""

    def pin(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.pin_memory(device or None) if item.backend.device == "cpu" else item
        return item.pin_memory() if hasattr(item, "pin_memory") else item

    return each_leaf(pin, batch)
