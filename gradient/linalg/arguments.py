"""Checks of matrices, and `info` (...), which marks the matrices for which a function failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.autograd.variable import wrap
from gradient.dtypes import DType, float32
from gradient.errors import DTypeError, ShapeError, sentence
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.creation import eye


def matrices(
    name: str, x: Any, dims: int = 2, integers: bool = False, takes_complex: bool = False
) -> Tensor:
    """Check x, a matrix or a batch of them, of floating-point numbers or other allowed dtypes."""
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


def of_host(function: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """Return `function` of the matrices of x (..., M, N), computed on the CPU in a dtype that
    LAPACK takes."""
    x = x.detach()
    array = (x.to(float32) if x.dtype.itemsize < 4 else x).array
    return wrap(x.backend.of_values(function, array), x.backend)


def infos(x: Tensor, of: Callable[[np.ndarray], int] | None = None) -> Tensor:
    """Return `of` of each matrix of x (..., N, N), as int32 (...); zeros without `of`."""

    def of_each(host: np.ndarray) -> np.ndarray:
        found = np.zeros(host.shape[:-2], np.int32)
        if of is not None:
            for index in np.ndindex(found.shape):
                found[index] = of(host[index])
        return found

    return of_host(of_each, x)


def without_failed(x: Tensor, info: Tensor) -> Tensor:
    """Return x (..., N, N) with the identity for matrices whose info is not 0."""
    failed = (info != 0)[..., None, None]
    one = eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return x.masked_fill(failed, 0.0) + one * failed.to(x.dtype)


def not_a_number(info: Tensor, dtype: DType) -> Tensor:
    """Return NaN where info (...) is not 0, else 0, as (..., 1, 1)."""
    failed = info != 0
    return failed.to(dtype).masked_fill(failed, float("nan"))[..., None, None]
