"""`distributions.utils`: what distributions of one's own are written with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from gradient.autograd.modes import enable_grad
from gradient.distributions import by_probability
from gradient.distributions.by_probability import *  # noqa: F403
from gradient.distributions.distribution import broadcast_all as _broadcast_all
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.random import randn
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, tensor_of
from gradient.tensor.creation import tril_indices

__all__ = ["broadcast_all", "lazy_property", "tril_matrix_to_vec", "vec_to_tril_matrix"]
__all__ += by_probability.__all__


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors and numbers as tensors of one shape; of the default dtype if all are numbers."""
    return _broadcast_all("broadcast_all", *values)


class lazy_property(functools.cached_property[Any]):  # noqa: N801 (PyTorch's name)
    """Decorator: an attribute that is computed when it is first asked for, in the graph."""

    def __init__(self, wrapped: Callable[[Any], Any]) -> None:
        super().__init__(enable_grad()(wrapped))


def _sum_rightmost(value: Tensor, dim: int) -> Tensor:
    """The sum over the last `dim` dimensions."""
    return value.sum(tuple(range(-dim, 0))) if dim else value


def _standard_normal(shape: Sequence[int], dtype: Any, device: Any) -> Tensor:
    """Numbers of the standard normal distribution."""
    return randn(*shape, dtype=dtype, device=device)


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The lower triangle of matrices (..., D, D), row by row, up to the diagonal `diag`."""
    n = tensor_of("tril_matrix_to_vec", mat).shape[-1]
    if not -n <= int_of("tril_matrix_to_vec", "diag", diag) < n:
        raise ArgumentError(sentence("tril_matrix_to_vec", f"diag from {-n} to {n - 1}", diag))
    rows, columns = tril_indices(n, n, diag, device=mat.device)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """Matrices (..., D, D) of which the lower triangle, row by row, is (..., D (D + 1) / 2); the
    inverse of `tril_matrix_to_vec`."""
    count = tensor_of("vec_to_tril_matrix", vec).shape[-1]
    diag = int_of("vec_to_tril_matrix", "diag", diag)
    n = 1
    while (size := sum(min(max(row + diag + 1, 0), n) for row in range(n))) < count:
        n += 1
    if size != count:
        expected = "as many numbers as a triangle has"
        raise ShapeError(sentence("vec_to_tril_matrix", expected, count))
    rows, columns = tril_indices(n, n, diag, device=vec.device)
    places = (rows * n + columns).expand(*vec.shape[:-1], count)
    flat = vec.new_zeros(*vec.shape[:-1], n * n).scatter(-1, places, vec)
    return flat.reshape(*vec.shape[:-1], n, n)
