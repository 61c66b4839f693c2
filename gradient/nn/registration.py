"""Hooks that are called when any module registers a parameter, a buffer or a child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.autograd.node import RemovableHandle
from gradient.errors import TypeMismatch, sentence

PARAMETER, BUFFER, MODULE = "parameter", "buffer", "module"

HOOKS: dict[str, list[Callable[..., Any]]] = {PARAMETER: [], BUFFER: [], MODULE: []}
"""By kind of member, the hooks in the order of their calls."""


def registered(kind: str, module: Any, name: str, value: Any) -> Any:
    """Call the hooks and return the value to register: `value`, or the last result of a hook that
    is not None. Hooks do not see a parameter that is None."""
    if kind is PARAMETER and value is None:
        return value
    for hook in list(HOOKS[kind]):
        replaced = hook(module, name, value)
        if replaced is not None:
            value = replaced
    return value


def _add(kind: str, hook: Callable[..., Any]) -> RemovableHandle:
    if not callable(hook):
        op = f"register_module_{kind}_registration_hook"
        raise TypeMismatch(sentence(op, "a function as hook", type(hook).__name__))
    return RemovableHandle(HOOKS[kind], hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, name, param) -> None or another param` when any module registers one."""
    return _add(PARAMETER, hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, name, buffer) -> None or another buffer` when any module registers one."""
    return _add(BUFFER, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, name, submodule) -> None or another` when any module registers a child."""
    return _add(MODULE, hook)
