"""`accelerator`: the GPU that `gradient.cuda` finds, by a name for any kind."""

from __future__ import annotations

from gradient.cuda import device_count, is_available, synchronize
from gradient.tensor import Device

__all__ = ["current_accelerator", "device_count", "is_available", "synchronize"]


def current_accelerator(check_available: bool = False) -> Device | None:
    """The device "cuda", or None where there is none."""
    return Device("cuda") if is_available() else None
