"""`jit` without its compiler: functions and modules stay what they are."""

from __future__ import annotations

import builtins
from typing import Any, Final, TypeVar

from gradient.compat.futures import Future, fork, wait
from gradient.errors import BackendError
from gradient.nn.module import Module as ScriptModule

__all__ = [
    "Final",
    "Future",
    "ScriptModule",
    "Attribute",
    "Error",
    "ScriptFunction",
    "TracerWarning",
    "annotate",
    "export",
    "fork",
    "freeze",
    "interface",
    "isinstance",
    "ignore",
    "is_scripting",
    "is_tracing",
    "load",
    "optimize_for_inference",
    "save",
    "script",
    "script_if_tracing",
    "script_method",
    "trace",
    "trace_module",
    "unused",
    "wait",
]

T = TypeVar("T")


def script(obj: T, optimize: Any = None, example_inputs: Any = None) -> T:
    """The function or module itself; `gradient.compile` records and replays."""
    return obj


def trace(
    func: T,
    example_inputs: Any = None,
    check_trace: bool = True,
    strict: bool = True,
) -> T:
    """The function or module itself."""
    return func


def ignore(drop: Any = False) -> Any:
    """Marks nothing: `@ignore` and `@ignore(drop=True)` give the function."""
    return drop if callable(drop) else lambda function: function


def export(fn: T) -> T:
    return fn


unused = script_method = script_if_tracing = export


def interface(obj: T) -> T:
    return obj


def annotate(the_type: Any, the_value: T) -> T:
    """The value: its type is for a compiler to know."""
    return the_value


def freeze(
    mod: T,
    preserved_attrs: Any = None,
    optimize_numerics: bool = True,
    preserve_parameters: bool = False,
) -> T:
    """The module itself."""
    return mod


def optimize_for_inference(mod: T, other_methods: Any = None) -> T:
    """The module itself."""
    return mod


isinstance = builtins.isinstance


def is_scripting() -> bool:
    return False


def is_tracing() -> bool:
    return False


def trace_module(
    mod: T,
    inputs: Any = None,
    optimize: Any = None,
    check_trace: bool = True,
    check_inputs: Any = None,
    check_tolerance: float = 1e-5,
    strict: bool = True,
) -> T:
    """The module itself."""
    return mod


_overload = _overload_method = _script_if_tracing = export


class Attribute:
    """A value and its type, which is for a compiler to know."""

    def __new__(cls, value: Any, type: Any) -> Any:
        return value


class TracerWarning(Warning):
    """A warning that is never given: nothing is traced."""


class Error(RuntimeError):
    """An error that is never raised: nothing is compiled by TorchScript."""


class ScriptedModule(ScriptModule):
    """What no module is: `script` returns the module itself."""


class ScriptFunction:
    """What no function is: `script` returns the function itself."""


def save(m: Any, f: Any) -> None:
    raise BackendError("jit.save: there is no TorchScript; save the state_dict by gradient.save")


def load(f: Any, map_location: Any = None) -> None:
    raise BackendError("jit.load: there is no TorchScript; load weights by gradient.load")
