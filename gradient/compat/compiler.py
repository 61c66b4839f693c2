"""`compiler` and `_dynamo`, of programs that are run as they stand: `gradient.compile` records."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from gradient.compat.eval_frame import OptimizedModule
from gradient.plan.compile import compile

__all__ = [
    "OptimizedModule",
    "TransformGetItemToIndex",
    "allow_in_graph",
    "assume_constant_result",
    "compile",
    "cudagraph_mark_step_begin",
    "disable",
    "is_compile_supported",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
    "list_backends",
    "mark_dynamic",
    "mark_static",
    "mark_static_address",
    "nested_compile_region",
    "reset",
    "set_stance",
]

T = TypeVar("T")


class TransformGetItemToIndex(contextlib.nullcontext[None]):
    """A block that changes nothing: `vmap` indexes by batched numbers."""


def disable(fn: T | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Marks nothing: `@disable` and `@disable()` give the function."""
    return (lambda function: function) if fn is None else fn


def allow_in_graph(fn: T) -> T:
    return fn


assume_constant_result = allow_in_graph


def nested_compile_region(fn: T | None = None, options: Any = None) -> Any:
    """Marks nothing, as `disable`."""
    return (lambda function: function) if fn is None else fn


class set_stance:  # noqa: N801 (PyTorch's name)
    """Nothing to switch, now, within a block or a function."""

    def __init__(
        self,
        stance: str = "default",
        *,
        skip_guard_eval_unsafe: bool = False,
        force_backend: Any = None,
    ) -> None:
        self.stance = stance

    def __call__(self, fn: T) -> T:
        return fn

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


def list_backends(exclude_tags: Any = ()) -> list[str]:
    """[]: there is one compiler."""
    return []


def is_compiling() -> bool:
    return False


is_dynamo_compiling: Callable[[], bool] = is_compiling
is_exporting: Callable[[], bool] = is_compiling


def is_compile_supported(device_type: str) -> bool:
    """False: nothing is compiled by PyTorch's compiler."""
    return False


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


def mark_static_address(t: Any, guard: bool = False) -> None:
    """Nothing to mark: a plan knows the addresses of what it uses."""
