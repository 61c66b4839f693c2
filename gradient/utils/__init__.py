"""PyTorch's `utils`: its names for `gradient.data` and for activation checkpointing."""

from gradient.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
