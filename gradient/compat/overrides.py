"""`overrides`: there is no `__torch_function__`, so no value has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gradient.tensor import Tensor

__all__ = [
    "handle_torch_function",
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
    "is_tensor_like",
]


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
