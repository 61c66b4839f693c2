"""Batches in page-locked memory, which a GPU copies asynchronously."""

from __future__ import annotations

from typing import Any

from gradient import backends
from gradient.data.collate import each_leaf
from gradient.errors import DeviceError
from gradient.tensor import Tensor


def can_pin(device: str) -> bool:
    """Whether memory can be pinned for this GPU; "": the first one."""
    try:
        return hasattr(backends.get(device or "cuda"), "pin")
    except DeviceError:
        return False


def pinned(batch: Any, device: str) -> Any:
    """Return a batch with its CPU tensors in pinned memory. For other objects with a method
    `pin_memory`, such as batches of a user's class, it returns that method's result."""

    def pin(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.pin_memory(device or None) if item.backend.device == "cpu" else item
        return item.pin_memory() if hasattr(item, "pin_memory") else item

    return each_leaf(pin, batch)
