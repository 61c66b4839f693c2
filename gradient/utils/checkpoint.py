"""`gradient.autograd.checkpoint` under the names that PyTorch scripts import."""

from gradient.autograd.checkpoint import checkpoint, checkpoint_sequential

__all__ = ["checkpoint", "checkpoint_sequential"]
