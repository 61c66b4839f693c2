"""`serialization`: nothing is unpickled (`gradient.load`), so no class has to be declared safe."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, TypeAlias

from gradient.errors import BackendError
from gradient.io import load, save

__all__ = [
    "MAP_LOCATION",
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "load",
    "safe_globals",
    "save",
]

MAP_LOCATION: TypeAlias = Any
"""The type of `map_location` in annotations."""


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


class PyTorchFileReader:
    """A reader of PyTorch's own files, which hold pickles; `gradient.load` reads their tensors."""

    def __init__(self, name_or_buffer: Any) -> None:
        raise BackendError("PyTorchFileReader: gradient.load reads the tensors of such a file")
