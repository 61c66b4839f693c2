"""`serialization`: nothing is unpickled (`gradient.load`), so no class has to be declared safe."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from gradient.io import load, save

__all__ = [
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "load",
    "safe_globals",
    "save",
]


def add_safe_globals(safe_globals: Sequence[Any]) -> None:
    """Nothing to add to: files hold tensors and plain values."""


def clear_safe_globals() -> None:
    """Nothing to clear."""


def get_safe_globals() -> list[Any]:
    return []


class safe_globals(contextlib.nullcontext[None]):  # noqa: N801 (PyTorch's name)
    """A block that changes nothing."""

    def __init__(self, safe_globals: Sequence[Any]) -> None:
        super().__init__()
