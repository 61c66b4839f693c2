"""Weight norm by its old name: a weight as a length and a direction (Salimans and Kingma 2016)."""

from __future__ import annotations

from typing import Any, TypeVar

from gradient.errors import ArgumentError, IndexOutOfRange, sentence
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor

__all__ = ["remove_weight_norm", "weight_norm"]

AModule = TypeVar("AModule", bound=Module)


def norm_except(v: Tensor, dim: int | None) -> Tensor:
    """The length of v over all dimensions but `dim`, which are kept as 1; a number, over all, where
    `dim` is None or -1."""
    if dim is None or dim == -1:
        return (v * v).sum().sqrt()
    others = tuple(d for d in range(v.ndim) if d != dim % v.ndim)
    return (v * v).sum(others, keepdim=True).sqrt() if others else v.abs()


class WeightNorm:
    """Before each call: weight = g v / |v|."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, dim

    def compute_weight(self, module: Module) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except(v, self.dim))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: AModule, name: str = "weight", dim: int | None = 0) -> AModule:
    """Have `module.weight` be `weight_g * weight_v / |weight_v|`, computed before each call.

    `dim` is the dimension along which each slice has a length of its own; None or -1: one for all.
    """
    if find(module, name, WeightNorm) is not None:
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
    """Refuse a dimension that a weight has not."""
    if dim is not None and not -weight.ndim <= dim < weight.ndim:
        raise IndexOutOfRange(
            sentence("weight_norm", f"dim from {-weight.ndim} to {weight.ndim - 1}", dim)
        )


def remove_weight_norm(module: AModule, name: str = "weight") -> AModule:
    """Make the weight that weight norm computes a parameter again."""
    return restored(module, name, WeightNorm, "weight norm", ("g", "v"))


def restored(
    module: AModule, name: str, kind: type, what: str, suffixes: tuple[str, ...]
) -> AModule:
    """The module, with the weight that a hook of a class computes a parameter again."""
    entry = find(module, name, kind)
    if entry is None:
        caller, expected = f"remove_{what.replace(' ', '_')}", f"a module whose {name!r} has {what}"
        raise ArgumentError(sentence(caller, expected, type(module).__name__))
    weight = entry.function.compute_weight(module).detach()
    remove(module, entry)
    for part in (name, *(f"{name}_{suffix}" for suffix in suffixes)):
        delattr(module, part)
    module.register_parameter(name, Parameter(weight))
    return module


def find(module: Module, name: str, kind: type[Any]) -> Any:
    """The pre-hook of a class that computes the weight `name`; None if there is none."""
    entries = [] if module._hooks is None else module._hooks.forward_pre
    for entry in entries:
        if isinstance(entry.function, kind) and entry.function.name == name:
            return entry
    return None


def remove(module: Module, entry: Any) -> None:
    assert module._hooks is not None
    module._hooks.forward_pre.remove(entry)
