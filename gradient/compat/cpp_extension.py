"""`utils.cpp_extension`: extensions in C++ need PyTorch's library; `load` raises an error."""

from __future__ import annotations

from typing import Any, NoReturn

from gradient.errors import BackendError

__all__ = ["CUDA_HOME", "is_ninja_available", "load", "load_inline"]

CUDA_HOME: str | None = None
"""None: nothing is compiled with CUDA's compiler."""


def is_ninja_available() -> bool:
    """False: nothing is compiled."""
    return False


def _refuse(caller: str, name: str) -> NoReturn:
    raise BackendError(
        f"cpp_extension.{caller}: {name} is C++ or CUDA code that includes and links PyTorch's "
        "library (ATen), which gradient has not; use the Python version of the operator, or "
        "write one with library.custom_op"
    )


def load(name: str, sources: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises BackendError: the sources include PyTorch's headers."""
    _refuse("load", f"{name} {sources}")


def load_inline(name: str, cpp_sources: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Raises BackendError, as `load` does."""
    _refuse("load_inline", name)
