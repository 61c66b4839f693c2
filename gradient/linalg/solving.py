"""Inverses, determinants and systems of linear equations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.variable import wrap
from gradient.dtypes import bool_, finfo, int64
from gradient.errors import LinAlgError, ShapeError, sentence
from gradient.linalg.arguments import infos, matrices, not_a_number, squares, without_failed
from gradient.linalg.decompositions import svdvals
from gradient.ops import decompositions as ops
from gradient.tensor import Tensor
from gradient.tensor.arguments import all_samples
from gradient.tensor.complex_numbers import polar
from gradient.tensor.creation import eye, zeros
from gradient.tensor.creation_like import ones_like
from gradient.tensor.reductions import return_type

__all__ = [
    "det",
    "inv",
    "inv_ex",
    "lstsq",
    "matrix_rank",
    "pinv",
    "slogdet",
    "solve",
    "solve_ex",
    "solve_triangular",
    "tensorinv",
    "tensorsolve",
]


@return_type("linalg_inv_ex")
class Inverse(NamedTuple):
    inverse: Tensor
    info: Tensor


@return_type("linalg_solve_ex")
class Solution(NamedTuple):
    result: Tensor
    info: Tensor


@return_type("linalg_slogdet")
class LogDeterminant(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


@return_type("linalg_lstsq")
class LeastSquares(NamedTuple):
    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


@autocasts("float32_on_cpu")
def inv(A: Tensor) -> Tensor:
    """Return the inverse of A (..., N, N). Raises LinAlgError if a matrix is singular."""
    return ops.inv(squares("linalg.inv", A, takes_complex=True))


@autocasts("float32_on_cpu")
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Inverse:
    """Return (inverse, info); info is int32 (...), 0 for an invertible matrix. Otherwise it is the
    position, from 1, of the first pivot that is 0, and the inverse is NaN; with `check_errors`,
    LinAlgError is raised.
    """
    x = squares("linalg.inv_ex", A, takes_complex=True)
    try:
        return Inverse(ops.inv(x), infos(x))
    except LinAlgError as error:
        if check_errors:
            raise LinAlgError(f"linalg.inv_ex: {error}") from None
    info = infos(x, _zero_pivot)
    return Inverse(ops.inv(without_failed(x, info)) + not_a_number(info, x.dtype), info)


def _zero_pivot(matrix: np.ndarray) -> int:
    """Return the position, from 1, of the first pivot that is 0; 0 if the matrix is invertible."""
    try:
        np.linalg.inv(matrix)
        return 0
    except np.linalg.LinAlgError:
        pass
    rest, n = matrix.copy(), len(matrix)
    for k in range(n):
        largest = k + int(np.abs(rest[k:, k]).argmax())
        if rest[largest, k] == 0:
            return k + 1
        rest[[k, largest]] = rest[[largest, k]]
        rest[k + 1 :] -= rest[k + 1 :, k : k + 1] / rest[k, k] * rest[k]
    return n  # LAPACK's rounding differed


@autocasts("float32_on_cpu")
def det(A: Tensor) -> Tensor:
    """The determinant (...) of A (..., N, N)."""
    return ops.det(squares("linalg.det", A, takes_complex=True))


@autocasts("float32_on_cpu")
def slogdet(A: Tensor) -> LogDeterminant:
    """Return the sign of the determinant of A (..., N, N), complex if A is, and log |det A|."""
    x = squares("linalg.slogdet", A, takes_complex=True)
    # Not computed from the determinant, which is 0 or infinite for large matrices.
    sign = wrap(x.backend.det_sign(x.detach().array), x.backend).to(x.dtype)
    if x.is_complex():
        found = ops.logabsdet(x)
        phase = found.imag - found.imag.detach()  # 0, with the gradient of the sign
        return LogDeterminant(sign * polar(ones_like(phase), phase), found.real.clone())
    nothing = x.masked_fill(ones_like(x, dtype=bool_), 0).sum((-2, -1))  # its gradient is 0
    return LogDeterminant(sign + nothing, ops.logabsdet(x))


@autocasts("float32_on_cpu")
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """Solve A X = B, or X A = B if not `left`, for X; A (..., N, N), B (..., N, K) or (..., N)."""
    a = squares("linalg.solve", A, takes_complex=True)
    b = matrices("linalg.solve", B, 1, takes_complex=True)
    vectors = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if vectors:
        b = b.unsqueeze(-1)
    rows = b.shape[-2 if left or vectors else -1]
    if rows != a.shape[-1]:
        got = f"A {tuple(a.shape)} and B {tuple(B.shape)}"
        raise ShapeError(sentence("linalg.solve", "A (..., N, N) and B of as many rows", got))
    if vectors:
        return ops.solve(a if left else a.mT, b).squeeze(-1)
    return ops.solve(a, b) if left else ops.solve(a.mT, b.mT).mT


@autocasts("float32_on_cpu")
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Solution:
    """Return (X, info); info is 0 for an invertible A. Otherwise it is that of `inv_ex`, and X is
    NaN; with `check_errors`, LinAlgError is raised."""
    try:
        return Solution(solve(A, B, left=left), infos(A))
    except LinAlgError as error:
        if check_errors:
            raise LinAlgError(f"linalg.solve_ex: {error}") from None
    info = infos(A, _zero_pivot)
    missing = not_a_number(info, A.dtype)
    found = solve(without_failed(A, info), B, left=left)
    vectors = found.ndim < A.ndim
    return Solution(found + (missing.squeeze(-1) if vectors else missing), info)


@autocasts("float32_on_cpu")
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Like `solve`, for triangular matrices. The other triangle is not read; with `unitriangular`
    the diagonal is not read either, and counts as ones."""
    a = squares("linalg.solve_triangular", A, takes_complex=True)
    a = a.triu(int(unitriangular)) if upper else a.tril(-int(unitriangular))
    if unitriangular:
        a = a + eye(a.shape[-1], dtype=a.dtype, device=a.device)
    b = matrices("linalg.solve_triangular", B, takes_complex=True)
    if not left:
        a, b, upper = a.mT, b.mT, not upper
    found = ops.solve_triangular(a, b, lower=not upper)
    return found if left else found.mT


def pinv(
    A: Tensor,
    rcond: float | None = None,
    hermitian: bool = False,
    *,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tensor:
    """Return the pseudo-inverse (..., N, M) of A (..., M, N) (Penrose 1955).

    Singular values up to max(atol, rtol * the largest one) count as 0. By default rtol is max(M, N)
    times the dtype's eps, or 0 if atol is given; `rcond` is its older name. With `hermitian`, only
    the lower triangle of A is read.
    """
    rtol = rcond if rtol is None else rtol
    x = matrices("linalg.pinv", A, takes_complex=True)
    if hermitian:  # the gradient is that of any square matrix, as in PyTorch
        finite = x.masked_fill(~x.detach().isfinite(), 0.0)
        x = _mirrored("linalg.pinv", x.detach()) + (finite - finite.detach())
    return ops.pinv(x, atol=float(atol or 0.0), rtol=float(_relative(x, atol, rtol)))


def _mirrored(name: str, x: Tensor) -> Tensor:
    """Return the symmetric or Hermitian matrix with the lower triangle of x."""
    below = squares(name, x, takes_complex=True).tril(-1)
    return below + below.mH + x.diagonal(0, -2, -1).real.diag_embed()


def _relative(x: Tensor, atol: float | Tensor | None, rtol: float | None) -> float:
    """Return rtol, or its default."""
    given = isinstance(atol, Tensor) or bool(atol)
    return (0.0 if given else max(x.shape[-2:]) * finfo(x.dtype).eps) if rtol is None else rtol


@autocasts("float32_on_cpu")
def matrix_rank(
    A: Tensor,
    tol: float | Tensor | None = None,
    *,
    atol: float | Tensor | None = None,
    rtol: float | Tensor | None = None,
    hermitian: bool = False,
) -> Tensor:
    """Return the number of singular values of A (..., M, N) above max(atol, rtol * the largest one)
    (see `pinv`). The tolerances may be tensors (...), one for each matrix."""
    x = matrices("linalg.matrix_rank", A, takes_complex=True).detach()
    if hermitian:
        x = _mirrored("linalg.matrix_rank", x)
    values = svdvals(x)
    if values.shape[-1] == 0:
        return values.sum(-1).long()
    least = tol if atol is None else atol
    if isinstance(rtol, Tensor):
        part: Tensor | float = rtol.unsqueeze(-1)
    else:
        part = _relative(x, least, 0.0 if tol is not None else rtol)
    above = values > values.amax(-1, keepdim=True) * part
    if least is not None:
        above = above & (values > (least.unsqueeze(-1) if isinstance(least, Tensor) else least))
    return above.sum(-1)


@autocasts("float32_on_cpu")
def lstsq(
    A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> LeastSquares:
    """Solve the least squares problem min |A X - B|, for A (..., M, N) and B (..., M, K) or (...,
    M); if there are several solutions, X is the one with the smallest norm.

    `residuals` are the squared distances (..., K) if M > N and A has rank N, else empty. As with
    PyTorch's drivers, `residuals` is empty with "gelsy" (the default), `rank` with "gels", and
    `singular_values` with both.
    """
    a = matrices("linalg.lstsq", A, takes_complex=True)
    b = matrices("linalg.lstsq", B, 1, takes_complex=True)
    vectors = b.ndim == a.ndim - 1 and b.shape == a.shape[:-1]
    b = b.unsqueeze(-1) if vectors else b
    if b.ndim < 2 or b.shape[-2] != a.shape[-2]:
        got = f"A {tuple(a.shape)} and B {tuple(B.shape)}"
        raise ShapeError(sentence("linalg.lstsq", "A (..., M, N) and B of M rows", got))
    x = pinv(a, rtol=rcond) @ b
    m, n = a.shape[-2:]
    rank = matrix_rank(a, rtol=rcond)
    full = driver not in (None, "gelsy") and m > n and bool((all_samples(rank) == n).all())
    off = a @ x - b
    residuals = ((off * off.conj()).real if off.is_complex() else off**2).sum(-2)
    if driver == "gels":  # it assumes full rank
        rank = zeros((0,), dtype=int64)
    residuals = residuals if full else residuals.reshape(-1)[:0]
    values = (
        svdvals(a.detach()) if driver in ("gelsd", "gelss") else zeros((0,), dtype=a.real.dtype)
    )
    return LeastSquares(x.squeeze(-1) if vectors else x, residuals, rank, values)


@autocasts("float32_on_cpu")
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """Return the inverse of A as a matrix, with the first `ind` dimensions as rows."""
    first, last = A.shape[:ind], A.shape[ind:]
    rows = 1
    for size in first:
        rows *= size
    return inv(A.reshape(rows, -1)).reshape(*last, *first)


@autocasts("float32_on_cpu")
def tensorsolve(A: Tensor, B: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Solve tensordot(A, X, X.ndim) = B for X."""
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = A.shape[B.ndim :]
    return solve(A.reshape(B.numel(), -1), B.reshape(-1)).reshape(*shape)
