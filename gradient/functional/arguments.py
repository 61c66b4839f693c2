"""Checks that several functions share."""

from __future__ import annotations

from typing import Any

from gradient import dtypes
from gradient.errors import DeviceError, TypeMismatch
from gradient.tensor import Tensor


def constant(op: str, name: str, value: Any, like: Tensor) -> Any:
    """The array of a tensor that an op takes as an option, without a gradient; None stays None."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        raise TypeMismatch(f"{op}: {name} must be a Tensor, got {type(value).__name__}")
    if value.backend is not like.backend:
        raise DeviceError(
            f"{op}: {name} is on {value.device}, the input on {like.device}; move one with .to()"
        )
    return value.array


def integers(op: str, name: str, value: Any, like: Tensor) -> Any:
    """The array of a tensor of integers."""
    array = constant(op, name, value, like)
    if value.dtype.is_floating_point or value.dtype == dtypes.bool_:
        raise TypeMismatch(f"{op}: {name} must be integers (int64), got {value.dtype}")
    return array
