"""`gradient.autograd.checkpoint` under the name that PyTorch scripts import."""

from gradient.autograd.checkpoint import checkpoint

__all__ = ["checkpoint"]
