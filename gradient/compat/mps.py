"""`backends.mps`, `mps` and `xpu`: there is no such GPU. Apple's is the device "metal"."""

__all__ = [
    "current_allocated_memory",
    "device_count",
    "driver_allocated_memory",
    "empty_cache",
    "get_rng_state",
    "is_available",
    "is_built",
    "manual_seed",
    "seed",
    "set_rng_state",
    "synchronize",
]

from gradient.cuda import manual_seed
from gradient.random import get_rng_state, seed, set_rng_state


def is_available() -> bool:
    return False


def is_built() -> bool:
    return False


def empty_cache() -> None:
    """Nothing to give back."""


def synchronize() -> None:
    """Nothing to wait for."""


def device_count() -> int:
    return 0


def current_allocated_memory() -> int:
    return 0


driver_allocated_memory = current_allocated_memory
