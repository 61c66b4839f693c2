"""The CUDA backend: CuPy arrays. `backend` is imported only when a "cuda" device is asked for."""

from typing import TYPE_CHECKING

from gradient import absent

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
