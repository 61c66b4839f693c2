"""What scripts ask `cuda` beyond whether there is a GPU: memory figures, streams, old types."""

from __future__ import annotations

from typing import Any

from gradient import random
from gradient.backends.registry import free_kept_memory, made
from gradient.compat import cuda_properties, cuda_streams, types
from gradient.compat.cuda_devices import device, device_of, runtime_of, set_device
from gradient.compat.cuda_properties import *  # noqa: F403
from gradient.compat.cuda_streams import *  # noqa: F403
from gradient.compat.types import TensorOf
from gradient.cuda import is_available
from gradient.errors import ArgumentError, OutOfMemoryError, sentence
from gradient.tensor import Tensor

__all__ = [
    "OutOfMemoryError",
    "device",
    "device_of",
    "empty_cache",
    "get_rng_state",
    "get_rng_state_all",
    "init",
    "initial_seed",
    "ipc_collect",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "max_memory_allocated",
    "max_memory_cached",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_cached",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_max_memory_allocated",
    "reset_max_memory_cached",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_per_process_memory_fraction",
    "set_rng_state",
    "set_rng_state_all",
]
__all__ += cuda_properties.__all__
__all__ += cuda_streams.__all__
__all__ += types.__all__

FloatTensor = TensorOf("FloatTensor", "cuda")
DoubleTensor = TensorOf("DoubleTensor", "cuda")
HalfTensor = TensorOf("HalfTensor", "cuda")
BFloat16Tensor = TensorOf("BFloat16Tensor", "cuda")
LongTensor = TensorOf("LongTensor", "cuda")
IntTensor = TensorOf("IntTensor", "cuda")
ShortTensor = TensorOf("ShortTensor", "cuda")
CharTensor = TensorOf("CharTensor", "cuda")
ByteTensor = TensorOf("ByteTensor", "cuda")
BoolTensor = TensorOf("BoolTensor", "cuda")


def init() -> None:
    """The driver is asked when it is needed."""


def is_initialized() -> bool:
    return False


def empty_cache() -> None:
    """Give the memory that no tensor holds back to the GPUs, for other programs. (That of recorded
    decoding steps, too, whose texts are finished.)"""
    for backend in made("cuda"):
        gpu: Any = backend
        free_kept_memory(gpu)
        gpu.runtime.empty_cache()


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether there is a GPU: bfloat16 is computed on each."""
    return is_available()


def memory_allocated(device: Any = None) -> int:
    """Bytes of arrays that are alive on a GPU (those of CuPy's pool, each rounded up to 512): 0
    where there is no GPU."""
    return runtime_of(device).memory_allocated() if is_available() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes that CuPy's pool holds on a GPU, in use or not: 0 where there is no GPU."""
    return runtime_of(device).memory_reserved() if is_available() else 0


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Let the pool take no more than this part, from 0 to 1, of a GPU's memory (0: no
    limit). What exceeds it ends in an OutOfMemoryError."""
    if not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
        name = "cuda.set_per_process_memory_fraction"
        raise ArgumentError(sentence(name, "a fraction from 0 to 1", fraction))
    runtime_of(device).limit_memory(float(fraction))


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes that are free on a GPU, and that it has."""
    return runtime_of(device).memory_of_device()


def max_memory_allocated(device: Any = None) -> int:
    """The peak of `memory_allocated` since `reset_peak_memory_stats`, or since this or
    `memory_stats` was first asked: nothing is counted before. 0 where there is no GPU."""
    return int(runtime_of(device).peaks.allocated) if is_available() else 0


def max_memory_reserved(device: Any = None) -> int:
    """The peak of `memory_reserved`, counted as that of `max_memory_allocated`."""
    return int(runtime_of(device).peaks.reserved) if is_available() else 0


def reset_peak_memory_stats(device: Any = None) -> None:
    """Have peaks begin with what is in use now."""
    if is_available():
        runtime_of(device).reset_peaks()


def memory_stats(device: Any = None) -> dict[str, int]:
    """Bytes in use and held, now and at their peaks, under PyTorch's names
    ("allocated_bytes.all.peak"); empty where there is no GPU."""
    if not is_available():
        return {}
    return {
        "allocated_bytes.all.current": memory_allocated(device),
        "allocated_bytes.all.peak": max_memory_allocated(device),
        "reserved_bytes.all.current": memory_reserved(device),
        "reserved_bytes.all.peak": max_memory_reserved(device),
    }


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """What `memory_stats` says, as a table."""
    rows = memory_stats(device) or {"no GPU": 0}
    return "\n".join(f"{name:<32}{size / 2**20:>12,.1f} MiB" for name, size in rows.items())


def ipc_collect() -> None:
    """Nothing to collect: GPUs share no memory between processes."""


def is_current_stream_capturing() -> bool:
    """Whether the user captures a graph: `gradient.compile` does, by itself."""
    return False


# Older names, and one generator for all devices ---------------------------------------------------

memory_cached, max_memory_cached = memory_reserved, max_memory_reserved
reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def initial_seed() -> int:
    """The seed that the default generator started from."""
    return random.initial_seed()


def seed() -> None:
    """Start the default generator anew."""
    random.seed()


seed_all = seed


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The default generator's state: one generator serves all devices."""
    return random.get_rng_state()


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    random.set_rng_state(new_state)


def get_rng_state_all() -> list[Tensor]:
    """The default generator's state, in a list."""
    return [random.get_rng_state()]


def set_rng_state_all(new_states: list[Tensor]) -> None:
    """Continue the default generator from the first of these states, if there is any."""
    for state in new_states[:1]:
        random.set_rng_state(state)
