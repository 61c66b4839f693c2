"""Checks of matrices."""

from __future__ import annotations

from typing import Any

from gradient.errors import DTypeError, ShapeError, sentence
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of


def matrices(
    name: str, x: Any, dims: int = 2, integers: bool = False, takes_complex: bool = False
) -> Tensor:
    """x, one matrix or a batch of them, of floating-point numbers or, if allowed, of others."""
    x = tensor_of(name, x)
    if x.ndim < dims:
        raise ShapeError(sentence(name, f"at least {dims} dimensions", tuple(x.shape)))
    if not (x.dtype.is_floating_point or integers or (takes_complex and x.dtype.is_complex)):
        raise DTypeError(sentence(name, "floating-point numbers", x.dtype))
    return x


def squares(name: str, x: Any, integers: bool = False, takes_complex: bool = False) -> Tensor:
    x = matrices(name, x, integers=integers, takes_complex=takes_complex)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(sentence(name, "square matrices (..., N, N)", tuple(x.shape)))
    return x
