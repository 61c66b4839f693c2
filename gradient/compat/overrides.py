"""`overrides`: there is no `__torch_function__`, so no value has one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from gradient.tensor import Tensor

__all__ = [
    "TorchFunctionMode",
    "get_default_nowrap_functions",
    "handle_torch_function",
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
    "is_tensor_like",
]


class TorchFunctionMode(contextlib.nullcontext[None]):
    """A block that changes nothing: no `__torch_function__` is called, this one's neither."""

    def __init__(self) -> None:
        super().__init__()


def get_default_nowrap_functions() -> set[Any]:
    """{}: no function wraps its results."""
    return set()


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    return False


def has_torch_function_unary(value: Any) -> bool:
    return False


def has_torch_function_variadic(*values: Any) -> bool:
    return False


def handle_torch_function(
    public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    """`public_api(*args, **kwargs)`"""
    return public_api(*args, **kwargs)


def is_tensor_like(inp: Any) -> bool:
    return isinstance(inp, Tensor)
