"""Checks that programs make through the package, so that PyTorch's compiler sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.errors import ArgumentError, TypeMismatch
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.from_data import tensor

Message = Callable[[], Any] | None


def _fail(kind: type[Exception], message: Message) -> None:
    raise kind("expected cond to be True, but got False" if message is None else str(message()))


def _check(cond: Any, message: Message = None) -> None:
    """Raises RuntimeError with what `message()` returns unless `cond`."""
    if not cond:
        _fail(CheckFailed, message)


def _check_with(error_type: type[Exception], cond: Any, message: Message = None) -> None:
    if not cond:
        _fail(error_type, message)


def _check_index(cond: Any, message: Message = None) -> None:
    if not cond:
        _fail(IndexError, message)


def _check_value(cond: Any, message: Message = None) -> None:
    if not cond:
        _fail(ArgumentError, message)


def _check_type(cond: Any, message: Message = None) -> None:
    if not cond:
        _fail(TypeMismatch, message)


def _check_not_implemented(cond: Any, message: Message = None) -> None:
    if not cond:
        _fail(NotImplementedError, message)


def _check_is_size(i: Any, message: Message = None, *, max: Any = None) -> None:
    """Raises RuntimeError unless 0 <= i (and i <= max)."""
    _check(i >= 0 and (max is None or i <= max), message)


def _check_tensor_all(cond: Tensor, message: Message = None) -> None:
    """Raises RuntimeError unless all elements are true."""
    _check(bool(tensor_of("_check_tensor_all", cond).all()), message)


def _assert(condition: Any, message: str) -> None:
    assert condition, message


def _assert_async(input: Tensor, assert_msg: str = "") -> None:
    """Raises RuntimeError unless a tensor of one element is nonzero. On a GPU, this waits."""
    if not tensor_of("_assert_async", input).item():
        raise CheckFailed(assert_msg or "Expected Tensor with single nonzero value, but got zero")


def _shape_as_tensor(self: Tensor) -> Tensor:
    """The shape, (ndim,) int64 on the CPU."""
    return tensor(list(tensor_of("_shape_as_tensor", self).shape), dtype="int64", device="cpu")


class CheckFailed(RuntimeError):
    """What a program checked by `_check` does not hold."""
