"""`gradient.autograd.checkpoint` under the names that PyTorch scripts import."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.autograd.checkpoint import checkpoint, checkpoint_sequential

__all__ = ["checkpoint", "checkpoint_sequential"]

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
