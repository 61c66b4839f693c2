"""`compiler` and `_dynamo`, of programs that are run as they stand: `gradient.compile` records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = [
    "allow_in_graph",
    "cudagraph_mark_step_begin",
    "disable",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
    "mark_dynamic",
    "mark_static",
    "reset",
]

T = TypeVar("T")


def disable(fn: T | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Marks nothing: `@disable` and `@disable()` give the function."""
    return (lambda function: function) if fn is None else fn


def allow_in_graph(fn: T) -> T:
    return fn


def is_compiling() -> bool:
    return False


is_dynamo_compiling: Callable[[], bool] = is_compiling
is_exporting: Callable[[], bool] = is_compiling


def reset() -> None:
    """Nothing is kept between calls that would have to be forgotten."""


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark."""


def mark_dynamic(
    t: Any,
    index: Any,
    hint_override: int | None = None,
    min: int | None = None,
    max: int | None = None,
) -> None:
    """Nothing to mark: every shape is taken as it comes."""


mark_static = mark_dynamic
