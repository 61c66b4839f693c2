"""`fx` without its tracer: what is marked for it stays what it is."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from gradient.compat.tables import TRACING
from gradient.errors import BackendError

__all__ = ["is_fx_tracing", "symbolic_trace", "wrap"]

T = TypeVar("T")


def wrap(fn_or_name: T) -> T:
    """Marks nothing: `@wrap` and `wrap("name")` give what they are given."""
    return fn_or_name


def is_fx_tracing() -> bool:
    return False


def symbolic_trace(root: object, concrete_args: object = None) -> NoReturn:
    raise BackendError(f"fx.symbolic_trace: {TRACING}")
