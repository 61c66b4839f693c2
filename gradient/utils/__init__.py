"""PyTorch's `utils`: its names of `gradient.data` and of activation checkpointing."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.utils import checkpoint, data

__all__ = ["checkpoint", "data"]

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
