"""Powers, exponentials and products of vectors and matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.variable import wrap
from gradient.dtypes import bool_, complex128, float64
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.linalg.arguments import matrices, squares
from gradient.linalg.solving import inv, solve
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of
from gradient.tensor.arithmetic import same_dtype
from gradient.tensor.creation import arange, eye
from gradient.tensor.creation_like import ones_like
from gradient.tensor.joining import where

__all__ = ["cross", "diagonal", "matrix_exp", "matrix_power", "multi_dot", "vander", "vecdot"]

PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
    129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0,
    960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
"""Coefficients of the Padé approximation of degree 13."""

REACH = 5.37
"""The largest norm for which it is accurate in float64."""


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A^n for A (..., N, N), by repeated squaring; for n < 0 powers of the inverse."""
    x = squares("linalg.matrix_power", A, integers=True, takes_complex=True)
    n = int_of("linalg.matrix_power", "n", n)
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return zeros_of(x) + _identity(x)
    if n == 1 and x is A:
        return x.clone()
    found = None
    while n > 0:
        if n % 2:
            found = x if found is None else found @ x
        n //= 2
        if n > 0:
            x = x @ x
    assert found is not None
    return found


def zeros_of(x: Tensor) -> Tensor:
    """Return zeros that depend on x in the graph."""
    return x.masked_fill(ones_like(x, dtype=bool_), 0)


def _identity(x: Tensor) -> Tensor:
    return eye(x.shape[-1], dtype=x.dtype, device=x.device)


def matrix_exp(A: Tensor) -> Tensor:
    """The sum of A^k / k!, for A (..., N, N) (Higham 2005, "The Scaling and Squaring Method for the
    Matrix Exponential Revisited")."""
    x = squares("linalg.matrix_exp", A, takes_complex=True)
    if x.numel() == 0:
        return x.clone()
    dtype, x = (
        x.dtype,
        x.to(complex128 if x.is_complex() else float64),
    )  # in float32 the solution loses digits
    most = 0

    def counted(norms: np.ndarray) -> np.ndarray:
        nonlocal most
        with np.errstate(all="ignore"):
            counts = np.ceil(np.log2(norms / REACH))
        counts = np.where(np.isfinite(counts), counts, 0.0).clip(min=0.0)
        most = int(counts.max(initial=0))
        return counts

    norms = x.detach().abs().sum(-2).amax(-1)
    halvings = wrap(x.backend.of_values(counted, norms.array), x.backend)[..., None, None]
    x = x * 2.0**-halvings
    one, x2 = _identity(x), x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    c = [value / PADE[0] for value in PADE]
    odd = x6 @ (c[13] * x6 + c[11] * x4 + c[9] * x2) + c[7] * x6 + c[5] * x4 + c[3] * x2
    odd = x @ (odd + c[1] * one)
    even = x6 @ (c[12] * x6 + c[10] * x4 + c[8] * x2) + c[6] * x6 + c[4] * x4 + c[2] * x2 + one
    found = solve(even - odd, even + odd)
    for i in range(most):
        more = halvings > i
        base = found.masked_fill(
            ~more, 0.0
        )  # finished ones are not squared, as they might overflow
        found = where(more, base @ base, found)
    return found.clone().to(dtype)  # the solution is kept for its gradient


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices, in the order with the fewest operations (Cormen et al.,
    "Introduction to Algorithms", section 14.2). The first and the last may be vectors."""
    factors = list(tensors)
    if len(factors) < 2:
        raise ShapeError(sentence("linalg.multi_dot", "at least 2 tensors", len(factors)))
    row, column = factors[0].ndim == 1, factors[-1].ndim == 1
    factors[0] = factors[0].unsqueeze(0) if row else factors[0]
    factors[-1] = factors[-1].unsqueeze(1) if column else factors[-1]
    for left, right in zip(factors, factors[1:], strict=False):
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
            got = [tuple(x.shape) for x in tensors]
            raise ShapeError(sentence("linalg.multi_dot", "matrices that can be multiplied", got))
    sizes = [factors[0].shape[0], *(x.shape[1] for x in factors)]
    n = len(factors)
    cost = {(i, i): (0, i) for i in range(n)}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j] = min(
                (cost[i, k][0] + cost[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        if i == j:
            return factors[i]
        k = cost[i, j][1]
        return product(i, k) @ product(k + 1, j)

    out = product(0, n - 1)
    out = out.squeeze(0) if row else out
    return out.squeeze(-1) if column else out


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Return the powers 0 to N - 1 of each element of x (..., n): (..., n, N); N is n by
    default."""
    count = (x.shape[-1] if x.ndim else 1) if N is None else int_of("linalg.vander", "N", N)
    if count < 2:
        raise ArgumentError(sentence("linalg.vander", "N of at least 2", count))
    x = x.unsqueeze(0) if x.ndim == 0 else x
    powers = arange(count, device=x.device)
    return x.unsqueeze(-1) ** powers.to(x.dtype)


@autocasts("lower_precision")
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The inner products of the vectors along `dim`; the result does not have this dimension. x and
    y broadcast; a complex x is conjugated."""
    x = matrices("linalg.vecdot", x, 0, takes_complex=True)
    y = matrices("linalg.vecdot", y, 0, takes_complex=True)
    same_dtype("linalg.vecdot", "y", x, y)
    return ((x.conj() if x.is_complex() else x) * y).sum(dim)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of the matrices in `dim1` and `dim2`, as a view."""
    return A.diagonal(offset, dim1, dim2)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross products of the vectors of 3 elements in `dim`."""
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        got = f"{tuple(input.shape)} and {tuple(other.shape)}"
        raise ShapeError(sentence("linalg.cross", f"3 elements in dimension {dim}", got))
    return input.cross(other, dim)
