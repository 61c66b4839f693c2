"""`fx` without its tracer: what is marked for it stays what it is. Its classes are there for
`isinstance`, which is then false, and to be inherited from; making one raises an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias, TypeVar

from gradient.compat.hints import TRACING
from gradient.errors import BackendError
from gradient.nn.module import Module

__all__ = [
    "Argument",
    "Graph",
    "GraphModule",
    "Interpreter",
    "Node",
    "Proxy",
    "Target",
    "Tracer",
    "Transformer",
    "free_symbols",
    "free_unbacked_symbols",
    "get_proxy_mode",
    "guard_or_false",
    "guard_or_true",
    "is_fx_tracing",
    "map_arg",
    "symbolic_trace",
    "wrap",
]

T = TypeVar("T")
Target: TypeAlias = Any
Argument: TypeAlias = Any


class _Traced:
    """A class of the tracer's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise BackendError(f"fx.{type(self).__name__}: {TRACING}")


class Graph(_Traced):
    pass


class Node(_Traced):
    pass


class Proxy(_Traced):
    pass


class Tracer(_Traced):
    pass


class Interpreter(_Traced):
    pass


class Transformer(Interpreter):
    pass


class GraphModule(Module):
    """The module that the tracer would make."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise BackendError(f"fx.{type(self).__name__}: {TRACING}")


_CodeOnlyModule, _USER_PRESERVED_ATTRIBUTES_KEY = Module, "_user_preserved_attributes"


def wrap(fn_or_name: T) -> T:
    """Marks nothing: `@wrap` and `wrap("name")` give what they are given."""
    return fn_or_name


def is_fx_tracing() -> bool:
    return False


def get_proxy_mode() -> None:
    """None: nothing is traced."""


def map_arg(a: T, fn: Callable[[Any], Any]) -> T:
    """The arguments themselves: none is a node of a graph."""
    return a


def symbolic_trace(root: object, concrete_args: object = None) -> NoReturn:
    raise BackendError(f"fx.symbolic_trace: {TRACING}")


def _copy_attr(from_module: Module, to_module: Module, target: str) -> NoReturn:
    raise BackendError(f"fx: {TRACING}")


def guard_or_false(a: Any) -> bool:
    """Whether a condition holds: sizes are numbers here."""
    return bool(a)


guard_or_true = guard_or_false


def free_symbols(val: Any) -> set[Any]:
    """{}: sizes are numbers."""
    return set()


free_unbacked_symbols = free_symbols
