"""Queries of the CUDA driver, without importing CuPy (0.1 ms instead of 0.3 s)."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

COMPUTE_CAPABILITY = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the driver's interface."""

MULTIPROCESSOR_COUNT = 16
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT."""


@functools.cache
def driver() -> Any | None:
    """The initialised driver library; None if there is no driver or no GPU."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if library.cuInit(0) != 0:
            return None
        _started_by.append(os.getpid())
        return library
    return None


_started_by: list[int] = []
"""The process that initialised the driver."""


def is_forked() -> bool:
    """Whether this process was forked from one that had initialised the driver; it then cannot use
    the driver."""
    return bool(_started_by) and _started_by[0] != os.getpid()


def device_count() -> int:
    """The number of GPUs that the driver sees."""
    library, count = driver(), ctypes.c_int(0)
    if library is None or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def device_name(index: int) -> str:
    """The name of GPU `index`, such as "NVIDIA H100 80GB HBM3"; "" if there is none."""
    library, device = driver(), ctypes.c_int(0)
    buffer = ctypes.create_string_buffer(256)
    if library is None or library.cuDeviceGet(ctypes.byref(device), index) != 0:
        return ""
    library.cuDeviceGetName(buffer, len(buffer), device)
    return buffer.value.decode()


def attributes(index: int, *numbers: int) -> list[int]:
    """The values of device attributes, given by number, of GPU `index`; [] if there is none."""
    library, device, value = driver(), ctypes.c_int(0), ctypes.c_int(0)
    if library is None or library.cuDeviceGet(ctypes.byref(device), index) != 0:
        return []
    found = []
    for number in numbers:
        library.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        found.append(value.value)
    return found


def total_memory(index: int) -> int:
    """The bytes of memory of GPU `index`; 0 if there is none."""
    library, device, size = driver(), ctypes.c_int(0), ctypes.c_size_t(0)
    if library is None or library.cuDeviceGet(ctypes.byref(device), index) != 0:
        return 0
    library.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return size.value


def architecture(index: int) -> str:
    """The compute capability of GPU `index` as NVRTC writes it, such as "sm_90"; "" if there is
    none."""
    digits = attributes(index, *COMPUTE_CAPABILITY)
    return f"sm_{''.join(map(str, digits))}" if digits else ""


def cuda_version() -> int | None:
    """The CUDA version that the driver supports (12040 is 12.4), None without a usable GPU."""
    library, version = driver(), ctypes.c_int(0)
    if library is None or device_count() == 0:
        return None
    library.cuDriverGetVersion(ctypes.byref(version))
    return version.value


# Launches -----------------------------------------------------------------------------------------

EARLY = 6
"""CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION."""
EARLY_IN_GRAPHS = 12040
"""A driver's version that has such launches in graphs."""


class LaunchAttribute(ctypes.Structure):
    """`CUlaunchAttribute`: a number of 4 bytes, 4 bytes of padding, and a value of 64 bytes."""

    _fields_ = (
        ("number", ctypes.c_int),
        ("between", ctypes.c_int),
        ("value", ctypes.c_int),
        ("rest", ctypes.c_byte * 60),
    )


class LaunchConfig(ctypes.Structure):
    """`CUlaunchConfig`."""

    _fields_ = (
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z")),
        *((name, ctypes.c_uint) for name in ("block_x", "block_y", "block_z", "shared")),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("count", ctypes.c_uint),
    )


def launches_early() -> bool:
    """Whether the driver supports programmatic dependent launch in graphs: kernels that start
    before their predecessors have ended."""
    return (cuda_version() or 0) >= EARLY_IN_GRAPHS and hasattr(driver(), "cuLaunchKernelEx")


def launch_early(
    function: int,
    grid: tuple[int, ...],
    block: int,
    shared: int,
    stream: int,
    arguments: list[Any],
) -> int:
    """Queue a kernel that may start before its predecessor has ended, and itself waits for that
    (programmatic dependent launch, `following.cuh`). Arguments are ctypes values. Return the
    driver's status; 0 is success."""
    library = driver()
    assert library is not None
    attribute = LaunchAttribute(EARLY, 0, 1)
    x, y, z = (*grid, 1, 1)[:3]
    config = LaunchConfig(x, y, z, block, 1, 1, shared, stream, ctypes.pointer(attribute), 1)
    pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
    status: int = library.cuLaunchKernelEx(
        ctypes.byref(config), ctypes.c_void_p(function), pointers, None
    )
    return status
