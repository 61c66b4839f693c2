"""Every differentiable op, forward and gradient formula side by side, by family."""

from gradient.ops import elementwise, fused, index, linalg, reduce, shape

__all__ = ["elementwise", "fused", "index", "linalg", "reduce", "shape"]
