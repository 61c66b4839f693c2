"""Decompositions of matrices: factors, eigenvalues and singular values."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.errors import ArgumentError, LinAlgError, sentence
from gradient.linalg.arguments import (
    infos,
    matrices,
    not_a_number,
    of_host,
    squares,
    without_failed,
)
from gradient.ops import decompositions as ops
from gradient.tensor import Tensor
from gradient.tensor.joining import cat
from gradient.tensor.reductions import return_type

__all__ = ["cholesky", "cholesky_ex", "eig", "eigh", "eigvals", "eigvalsh", "qr", "svd", "svdvals"]


@return_type("linalg_cholesky_ex")
class Cholesky(NamedTuple):
    L: Tensor
    info: Tensor


@return_type("linalg_eig")
class Eig(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


@return_type("linalg_eigh")
class Eigh(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


@return_type("linalg_qr")
class QR(NamedTuple):
    Q: Tensor
    R: Tensor


@return_type("linalg_svd")
class SVD(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


@autocasts("float32_on_cpu")
def cholesky(input: Tensor, *, upper: bool = False) -> Tensor:
    """Return L of input = L L^H, for symmetric or Hermitian positive definite matrices (..., N, N);
    with `upper` L^H.

    Only one triangle is read. Raises LinAlgError if a matrix is not positive definite.
    """
    x = squares("linalg.cholesky", input, takes_complex=True)
    if not upper:
        return ops.cholesky(x)
    if x.is_complex():  # the gradient is that of the lower factor, as in PyTorch
        x = x.detach().mH + (x - x.detach())
        return ops.cholesky(x).mH
    return ops.cholesky(x.mT).mT


@autocasts("float32_on_cpu")
def cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False) -> Cholesky:
    """Return (L, info); info is int32 (...), 0 for a positive definite matrix. Otherwise it is the
    size of the first leading minor that is not, and L is NaN; with `check_errors`, LinAlgError is
    raised."""
    x = squares("linalg.cholesky_ex", input, takes_complex=True)
    try:
        return Cholesky(cholesky(x, upper=upper), infos(x))
    except LinAlgError as error:
        if check_errors:
            raise LinAlgError(f"linalg.cholesky_ex: {error}") from None
    info = infos(x, lambda matrix: _first_minor(matrix.conj().T if upper else matrix))
    return Cholesky(
        cholesky(without_failed(x, info), upper=upper) + not_a_number(info, x.dtype), info
    )


def _first_minor(matrix: np.ndarray) -> int:
    """Return the size of the first leading minor that is not positive definite; 0 if all are."""
    for size in range(1, len(matrix) + 1):
        try:
            if np.isnan(np.linalg.cholesky(matrix[:size, :size])).any():
                return size
        except np.linalg.LinAlgError:
            return size
    return 0


@autocasts("float32_on_cpu")
def eig(A: Tensor) -> Eig:
    """Return eigenvalues (..., N), unordered, and eigenvectors (..., N, N), as columns of norm 1,
    of square matrices. Both are always complex. A loss must not depend on the phases of the
    vectors, nor on vectors with equal eigenvalues, whose gradient is infinite."""
    found = ops.eig(squares("linalg.eig", A, takes_complex=True))
    return Eig(found[..., -1, :].clone(), found[..., :-1, :].clone())


@autocasts("float32_on_cpu")
def eigvals(A: Tensor) -> Tensor:
    """Return the eigenvalues (..., N) of square matrices, complex and unordered."""
    return eig(squares("linalg.eigvals", A, takes_complex=True)).eigenvalues


@autocasts("float32_on_cpu")
def eigh(A: Tensor, UPLO: Literal["L", "U"] = "L") -> Eigh:
    """Return eigenvalues (..., N), ascending, and eigenvectors (..., N, N), as columns, of
    symmetric or Hermitian matrices. Only the lower (L) or the upper (U) triangle is read. A loss
    must not depend on the signs, or complex phases, of the vectors."""
    x = _triangle("linalg.eigh", A, UPLO, takes_complex=True)
    found = ops.eigh(x)
    values = found[..., -1, :]
    return Eigh((values.real if x.is_complex() else values).clone(), found[..., :-1, :].clone())


@autocasts("float32_on_cpu")
def eigvalsh(A: Tensor, UPLO: Literal["L", "U"] = "L") -> Tensor:
    """Return the eigenvalues (..., N) of symmetric or Hermitian matrices, ascending."""
    x = _triangle("linalg.eigvalsh", A, UPLO, takes_complex=True)
    return eigh(x).eigenvalues if x.is_complex() else ops.eigvalsh(x)


def _triangle(name: str, x: Tensor, uplo: str, takes_complex: bool) -> Tensor:
    if str(uplo).upper() not in ("L", "U"):
        raise ArgumentError(sentence(name, "UPLO 'L' or 'U'", repr(uplo)))
    x = squares(name, x, takes_complex=takes_complex)
    return x.mH if uplo.upper() == "U" else x


@autocasts("float32_on_cpu")
def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """Return U, the singular values S (descending) and V^H of A = U diag(S) V^H (..., M, N).

    U is (..., M, K), S (..., K) and V^H (..., K, N), with K = min(M, N). With `full_matrices` U and
    V^H are square; the added vectors have no gradient.
    """
    x = matrices("linalg.svd", A, takes_complex=True)
    m, n = x.shape[-2:]
    found = ops.svd(x)
    u, s, v = (found[..., :m, :].clone(), found[..., m, :].clone(), found[..., m + 1 :, :].clone())
    if full_matrices and m > n:
        u = cat([u, _complement(u)], -1)
    if full_matrices and n > m:
        v = cat([v, _complement(v)], -1)
    return SVD(u, s.real.clone() if x.is_complex() else s, v.mH.clone())


def _complement(columns: Tensor) -> Tensor:
    """Return orthonormal columns that complete (..., M, K) to a square, without a gradient."""
    size = columns.shape[-1]
    found = of_host(lambda host: np.linalg.svd(host, full_matrices=True)[0][..., size:], columns)
    return found.to(columns.dtype)


@autocasts("float32_on_cpu")
def svdvals(A: Tensor) -> Tensor:
    """Return the singular values (..., K) of A (..., M, N), descending; K = min(M, N)."""
    x = matrices("linalg.svdvals", A, takes_complex=True)
    return svd(x, False).S if x.is_complex() else ops.svdvals(x)


@autocasts("float32_on_cpu")
def qr(A: Tensor, mode: Literal["reduced", "complete", "r"] = "reduced") -> QR:
    """Return Q, with orthonormal columns, and R, upper triangular, of A = Q R (..., M, N).

    Q is (..., M, K), with K = min(M, N). With mode "complete" it is (..., M, M), and the added
    columns have no gradient; with mode "r" it is empty.
    """
    x = matrices("linalg.qr", A, takes_complex=True)
    m, n = x.shape[-2:]
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(sentence("linalg.qr", "mode reduced, complete or r", repr(mode)))
    if m >= n:
        found = ops.qr(x)
        q, r = found[..., :m, :].clone(), found[..., m:, :].mT.clone()
    else:  # QR of the first columns; then R of the others is Q^H times them
        found = ops.qr(x[..., :m])
        q = found[..., :m, :].clone()
        r = cat([found[..., m:, :].mT, q.mH @ x[..., m:]], -1)
    if mode == "r":
        return QR(q.new_empty((0,)), r)
    if mode == "complete" and m > n:
        q = cat([q, _complement(q)], -1)
        r = cat([r, r.new_zeros((*r.shape[:-2], m - n, n))], -2)
    return QR(q, r)
