"""Pre-hooks that compute a weight of a module from other tensors of it, before each call."""

from __future__ import annotations

from typing import Any, TypeVar

from gradient.errors import ArgumentError, sentence
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter

M = TypeVar("M", bound=Module)


def restore_weight(module: M, name: str, kind: type, what: str, suffixes: tuple[str, ...]) -> M:
    """Remove a hook of class `kind`, and make the weight that it computes a parameter again; return
    the module.

    Args:
        what: the name of the method, for the error.
        suffixes: those of the names under which its tensors are stored.
    """
    entry = find_hook(module, name, kind)
    if entry is None:
        caller, expected = f"remove_{what.replace(' ', '_')}", f"a module whose {name!r} has {what}"
        raise ArgumentError(sentence(caller, expected, type(module).__name__))
    weight = entry.function.compute_weight(module).detach()
    remove_hook(module, entry)
    for part in (name, *(f"{name}_{suffix}" for suffix in suffixes)):
        delattr(module, part)
    module.register_parameter(name, Parameter(weight))
    return module


def find_hook(module: Module, name: str, kind: type[Any]) -> Any:
    """Return the entry of the pre-hook of class `kind` that computes the weight `name`, or None."""
    entries = [] if module._hooks is None else module._hooks.forward_pre
    for entry in entries:
        if isinstance(entry.function, kind) and entry.function.name == name:
            return entry
    return None


def remove_hook(module: Module, entry: Any) -> None:
    """Remove a pre-hook that `find_hook` returned."""
    assert module._hooks is not None
    module._hooks.forward_pre.remove(entry)
