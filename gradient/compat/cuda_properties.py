"""What scripts print of a GPU, or choose by: its properties, and a summary of its memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from gradient.backends.cuda import driver
from gradient.backends.registry import canonical
from gradient.cuda import get_device_name

__all__ = ["get_arch_list", "get_device_capability", "get_device_properties"]


class DeviceProperties(NamedTuple):
    """Of a GPU: compute capability `major`.`minor`, memory in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Name, compute capability, memory and multiprocessors of a GPU, the current one unless told.

    Raises:
        DeviceError: There is no such GPU.
    """
    name = get_device_name(device)
    index = _index(device)
    major, minor, count = driver.attributes(
        index, *driver.COMPUTE_CAPABILITY, driver.MULTIPROCESSOR_COUNT
    )
    return DeviceProperties(name, major, minor, driver.total_memory(index), count)


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU, such as (9, 0)."""
    found = get_device_properties(device)
    return found.major, found.minor


def get_arch_list() -> list[str]:
    """What kernels are compiled for when they are first used: the GPUs that are there."""
    return sorted({driver.architecture(i) for i in range(driver.device_count())})


def _index(device: Any) -> int:
    named = "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device
    return int(canonical(str(named)).partition(":")[2] or 0)
