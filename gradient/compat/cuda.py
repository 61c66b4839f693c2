"""What scripts ask `cuda` beyond whether there is a GPU: memory figures, streams, old types."""

from __future__ import annotations

import contextlib
from typing import Any

from gradient import dtypes
from gradient.compat.types import TensorOf
from gradient.cuda import is_available
from gradient.errors import BackendError, DeviceError, sentence

__all__ = [
    "BoolTensor",
    "ByteTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "device",
    "empty_cache",
    "init",
    "is_bf16_supported",
    "is_initialized",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "set_device",
]

FloatTensor = TensorOf("FloatTensor", dtypes.float32, "cuda")
DoubleTensor = TensorOf("DoubleTensor", dtypes.float64, "cuda")
HalfTensor = TensorOf("HalfTensor", dtypes.float16, "cuda")
LongTensor = TensorOf("LongTensor", dtypes.int64, "cuda")
IntTensor = TensorOf("IntTensor", dtypes.int32, "cuda")
ByteTensor = TensorOf("ByteTensor", dtypes.uint8, "cuda")
BoolTensor = TensorOf("BoolTensor", dtypes.bool_, "cuda")


def device(device: Any) -> contextlib.AbstractContextManager[None]:
    """A block in which "cuda" means this device: the first, which it always means here."""
    return contextlib.nullcontext()


def set_device(device: Any) -> None:
    """Make this the device that "cuda" means: the first is, and can be set."""
    if str(device).rpartition(":")[2] not in ("0", "cuda"):
        raise DeviceError(sentence("cuda.set_device", "device 0", device, "say .to('cuda:1')"))


def init() -> None:
    """The driver is asked when it is needed."""


def is_initialized() -> bool:
    return False


def empty_cache() -> None:
    """Nothing to give back on the CPU; CuPy keeps its pool."""


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether there is a GPU: bfloat16 is computed on each."""
    return is_available()


def memory_allocated(device: Any = None) -> int:
    """Bytes of tensors on the GPU: 0 where there is none."""
    return 0 if not is_available() else _unknown("memory_allocated")


def memory_reserved(device: Any = None) -> int:
    """Bytes that the process holds on the GPU: 0 where there is none."""
    return 0 if not is_available() else _unknown("memory_reserved")


max_memory_allocated, max_memory_reserved = memory_allocated, memory_reserved


def reset_peak_memory_stats(device: Any = None) -> None:
    """Nothing is counted."""


def _unknown(name: str) -> int:
    fix = "ask cupy.get_default_memory_pool()"
    raise BackendError(f"cuda.{name}: memory on a GPU is not counted here; {fix}")
