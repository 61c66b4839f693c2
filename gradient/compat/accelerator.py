"""`accelerator`: the GPU that `gradient.cuda` finds, by a name for any kind."""

from __future__ import annotations

from gradient.compat.cuda import (
    current_stream,
    device,
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
    set_device,
)
from gradient.cuda import current_device, device_count, is_available, synchronize
from gradient.tensor import Device

__all__ = [
    "current_accelerator",
    "current_device_idx",
    "current_device_index",
    "current_stream",
    "device_count",
    "device_index",
    "empty_cache",
    "get_memory_info",
    "is_available",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "set_device_idx",
    "set_device_index",
    "synchronize",
]


def current_accelerator(check_available: bool = False) -> Device | None:
    """The device "cuda", or None where there is none."""
    return Device("cuda") if is_available() else None


current_device_idx = current_device_index = current_device
set_device_idx = set_device_index = set_device
get_memory_info = mem_get_info
device_index = device
