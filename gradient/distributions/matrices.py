"""Cholesky factors and triangular systems of small matrices, of differentiable operations."""

from __future__ import annotations

from gradient.autograd import no_grad
from gradient.tensor import Tensor
from gradient.tensor.creation import eye
from gradient.tensor.joining import cat, stack

__all__ = [
    "cholesky",
    "identity_like",
    "is_positive_definite",
    "solve_lower",
]


def cholesky(matrix: Tensor) -> Tensor:
    """L of L L^T = matrix (..., n, n), column by column; NaN where the matrix is not positive.

    The gradient is symmetric, as the matrix is.
    """
    n, matrix = matrix.shape[-1], (matrix + matrix.mT) / 2
    columns: list[Tensor] = []  # each (..., n)
    for j in range(n):
        rest = matrix[..., j:, j]
        for column in columns:
            rest = rest - column[..., j:] * column[..., j : j + 1]
        below = rest / rest[..., :1].sqrt()
        above = below.new_zeros((*below.shape[:-1], j))
        columns.append(cat([above, below], -1) if j else below)
    return stack(columns, -1)


def solve_lower(lower: Tensor, right: Tensor) -> Tensor:
    """x of `lower @ x = right`, (..., n, n) and (..., n, k), row by row."""
    rows: list[Tensor] = []
    for i in range(lower.shape[-1]):
        row = right[..., i, :]
        if rows:
            known = stack(rows, -2)  # (..., i, k)
            row = row - (lower[..., i, :i].unsqueeze(-2) @ known).squeeze(-2)
        rows.append(row / lower[..., i, i].unsqueeze(-1))
    return stack(rows, -2)


def identity_like(matrix: Tensor) -> Tensor:
    """The identity of the size of `matrix`."""
    return eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def is_positive_definite(matrix: Tensor) -> Tensor:
    """Whether each matrix has a Cholesky factor."""
    with no_grad():
        factor = cholesky(matrix.detach())
        return (factor == factor).flatten(-2).all(-1)
