"""`backends.mps` and `mps`: there is no backend for Apple's GPUs."""

__all__ = ["is_available", "is_built", "empty_cache", "synchronize", "manual_seed"]

from gradient.cuda import manual_seed


def is_available() -> bool:
    return False


def is_built() -> bool:
    return False


def empty_cache() -> None:
    """Nothing to give back."""


def synchronize() -> None:
    """Nothing to wait for."""
