"""Weight norm as a hook: a weight as a norm times a direction (Salimans and Kingma 2016).

This is PyTorch's older interface; `nn.utils.parametrizations.weight_norm` is the newer one.
"""

from __future__ import annotations

from typing import Any

from gradient.errors import ArgumentError, IndexOutOfRange, sentence
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.nn.utils.weight_hooks import M, find_hook, restore_weight
from gradient.tensor import Tensor

__all__ = ["remove_weight_norm", "weight_norm"]


def norm_except(v: Tensor, dim: int | None) -> Tensor:
    """Return the norm of v over all dimensions except `dim`; these are kept, with size 1. If `dim`
    is None or -1: the norm of all elements, 0-d."""
    if dim is None or dim == -1:
        return (v * v).sum().sqrt()
    others = tuple(d for d in range(v.ndim) if d != dim % v.ndim)
    return (v * v).sum(others, keepdim=True).sqrt() if others else v.abs()


class WeightNorm:
    """A pre-hook that sets weight = g v / |v|."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, dim

    def compute_weight(self, module: Module) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except(v, self.dim))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Replace `module.weight` by `weight_g * weight_v / |weight_v|`, computed before each call.

    Each slice along `dim` has a norm of its own; None or -1: one norm for the whole weight.
    """
    if find_hook(module, name, WeightNorm) is not None:
        raise ArgumentError(f"weight_norm: {name!r} of {type(module).__name__} has one already")
    weight = getattr(module, name)
    expect_dim(weight, dim)
    hook = WeightNorm(name, dim)
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(norm_except(weight.detach(), dim)))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def expect_dim(weight: Tensor, dim: int | None) -> None:
    """Raise IndexOutOfRange if the weight has no dimension `dim`."""
    if dim is not None and not -weight.ndim <= dim < weight.ndim:
        raise IndexOutOfRange(
            sentence("weight_norm", f"dim from {-weight.ndim} to {weight.ndim - 1}", dim)
        )


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Remove weight norm: make the present weight a plain parameter again."""
    return restore_weight(module, name, WeightNorm, "weight norm", ("g", "v"))
