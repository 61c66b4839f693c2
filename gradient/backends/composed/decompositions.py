"""Decompositions of matrices (..., M, N), by LAPACK on the host.

Backends override them if their devices have such routines. If a method returns several matrices,
they are stacked vertically in one array. Matrices are float32 or float64, or complex where a
formula has the adjoint x^H.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from gradient.backends.composed.precision import in_float32
from gradient.backends.required import Array, RequiredMethods
from gradient.dtypes import HALF_PRECISION, float32
from gradient.errors import LinAlgError

Method = TypeVar("Method", bound=Callable[..., Any])


def lapack(method: Method) -> Method:
    """Decorator: replace errors of LAPACK by our error class, with the method's name, and let NaN
    pass without a warning."""

    @functools.wraps(method)
    def run(*args: Any) -> Any:
        try:
            with np.errstate(invalid="ignore"):  # of NaN
                return method(*args)
        except np.linalg.LinAlgError as error:
            raise LinAlgError(f"linalg.{method.__name__}: {error}") from None

    return cast(Method, run)


WELL_CONDITIONED = 1e4
"""The condition of matrices, by Frobenius norms in float64, up to which cofactors are computed by
the inverse."""

BLOCK = 32
"""Columns that are eliminated one by one, before the others get what they do as one product."""


class DecompositionDefaults(RequiredMethods[Array]):
    """Methods of `Backend` for decompositions of matrices."""

    @in_float32
    @lapack
    def inv(self, x: Array) -> Array:
        """The inverse of x (..., N, N)."""
        return self.asarray(np.linalg.inv(self.to_numpy(x)))

    @in_float32
    @lapack
    def solve(self, a: Array, b: Array) -> Array:
        """x of a x = b, for a (..., N, N) and b (..., N, K)."""
        return self.asarray(np.linalg.solve(self.to_numpy(a), self.to_numpy(b)))

    @in_float32
    @lapack
    def solve_triangular(self, a: Array, b: Array, lower: bool) -> Array:
        """`solve` for a triangular a, whose other triangle is 0, by substitution; infinite or NaN
        where a has a 0 on its diagonal."""
        matrix, right = self.to_numpy(a), self.to_numpy(b)
        if lower:  # of upper triangular matrices LAPACK exchanges no rows
            matrix, right = matrix[..., ::-1, ::-1], right[..., ::-1, :]
        try:
            found = np.linalg.solve(matrix, right)
        except np.linalg.LinAlgError:  # a 0 on the diagonal
            found = _substituted(matrix, right)
        return self.asarray(np.ascontiguousarray(found[..., ::-1, :]) if lower else found)

    @in_float32
    @lapack
    def cholesky(self, x: Array) -> Array:
        """The lower triangular L of x = L L^T (of complex x = L L^H), from the lower triangle of x
        (..., N, N)."""
        factor = np.linalg.cholesky(self.to_numpy(x))
        if np.isnan(factor).any():
            raise np.linalg.LinAlgError("expected numbers, got NaN")
        return self.asarray(factor)

    @in_float32
    def lu(self, x: Array) -> Array:
        """(..., M, N) for x (..., M, N) = L U: L below the diagonal (L has ones on it), and U from
        the diagonal on. Rows are not exchanged: see `lu_pivots`."""
        return self.asarray(eliminate(self.to_numpy(x), False)[0])

    def lu_pivots(self, x: Array) -> Array:
        """Row exchanges for partial pivoting of x (..., M, N): int32 (..., K), K = min(M, N). In
        step k, row k is exchanged with row pivots[k] (counted from 0)."""
        x = self.astype(x, float32.numpy) if x.dtype in HALF_PRECISION else x
        return self.asarray(eliminate(self.to_numpy(x), True)[1].astype(np.int32))

    @in_float32
    @lapack
    def logabsdet(self, x: Array) -> Array:
        """log |det x|, for x (..., N, N); for complex x log det x, with the angle as imaginary
        part."""
        host = self.to_numpy(x)
        sign, found = np.linalg.slogdet(host)
        found = _with_nan(found, host, -math.inf)
        return self.asarray(found + 1j * np.angle(sign) if np.iscomplexobj(sign) else found)

    @lapack
    def det_sign(self, x: Array) -> Array:
        """The sign of det x, for x (..., N, N), 0 for a singular matrix; for complex x a number of
        magnitude 1."""
        x = self.astype(x, float32.numpy) if x.dtype in HALF_PRECISION else x
        host = self.to_numpy(x)
        host = host.astype(np.complex128 if np.iscomplexobj(host) else np.float64)
        return self.asarray(np.asarray(np.linalg.slogdet(host)[0]))

    @in_float32
    @lapack
    def det(self, x: Array) -> Array:
        """The determinant of x (..., N, N)."""
        host = self.to_numpy(x)
        return self.asarray(_with_nan(np.linalg.det(host), host, 0))

    @in_float32
    @lapack
    def cofactor(self, x: Array) -> Array:
        """The matrix of cofactors of x (..., N, N), det(x) x^-T, also for singular matrices."""
        host = self.to_numpy(x)
        numbers = np.isfinite(host).all((-2, -1), keepdims=True)
        found = _cofactors(host if numbers.all() else np.where(numbers, host, 0))
        return self.asarray(np.where(numbers, found, host.dtype.type(np.nan)))

    @in_float32
    @lapack
    def eigh(self, x: Array) -> Array:
        """(..., N + 1, N) for a symmetric or Hermitian x (only its lower triangle is read): the
        eigenvectors as columns, and below them the eigenvalues, ascending."""
        values, vectors = np.linalg.eigh(self.to_numpy(x))
        return self.asarray(np.concatenate([vectors, values[..., None, :]], -2))

    @lapack
    def eig(self, x: Array) -> Array:
        """(..., N + 1, N), complex, for x (..., N, N): the eigenvectors as columns of norm 1, and
        below them the eigenvalues, in no order."""
        host = self.to_numpy(x)
        values, vectors = np.linalg.eig(host)
        found = np.concatenate([vectors, values[..., None, :]], -2)
        return self.asarray(found.astype(np.result_type(host, np.complex64)))

    @in_float32
    @lapack
    def svd(self, x: Array) -> Array:
        """(..., M + 1 + N, K) for x (..., M, N) = U diag(S) V^H, K = min(M, N): U, below it the
        singular values, descending, and below them V."""
        u, s, vh = np.linalg.svd(self.to_numpy(x), full_matrices=False)
        return self.asarray(np.concatenate([u, s[..., None, :], vh.conj().swapaxes(-1, -2)], -2))

    @in_float32
    @lapack
    def qr(self, x: Array) -> Array:
        """(..., M + N, K) for x (..., M, N) = Q R, K = min(M, N): Q, and below it R^T."""
        q, r = np.linalg.qr(self.to_numpy(x))
        return self.asarray(np.concatenate([q, r.swapaxes(-1, -2)], -2))

    @in_float32
    @lapack
    def pinv(self, x: Array, atol: float, rtol: float) -> Array:
        """The pseudo-inverse (..., N, M) of x (..., M, N). Singular values of at most
        max(atol, rtol * largest) count as 0."""
        u, s, vh = np.linalg.svd(self.to_numpy(x), full_matrices=False)
        bound = np.maximum(atol, rtol * s.max(-1, keepdims=True, initial=0))
        large = s > bound
        factors = np.where(large, 1 / np.where(large, s, 1), 0).astype(s.dtype)
        v, across = vh.conj().swapaxes(-1, -2), u.conj().swapaxes(-1, -2)
        return self.asarray((v * factors[..., None, :]) @ across)


def _substituted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x of a x = b by back substitution, for an upper triangular a (..., N, N)."""
    n = a.shape[-1]
    found = np.empty(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + b.shape[-2:], b.dtype)
    with np.errstate(all="ignore"):
        for k in reversed(range(n)):
            row = slice(k, k + 1)
            rest = b[..., row, :] - a[..., row, k + 1 :] @ found[..., k + 1 :, :]
            found[..., row, :] = rest / a[..., row, row]
    return found


def _size(x: np.ndarray) -> np.ndarray:
    """The magnitude by which LAPACK compares numbers: |x|; for complex x, |real| + |imag|."""
    return np.abs(x.real) + np.abs(x.imag) if np.iscomplexobj(x) else np.abs(x)


def eliminate(x: np.ndarray, pivot: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return (LU, pivots) of matrices x (..., M, N), as LAPACK's getrf, by columns (Golub and Van
    Loan, "Matrix Computations", section 3.4.1; in blocks, section 3.2.11).

    LU is L below the diagonal (L has ones on it), and U from the diagonal on. If `pivot`, step k
    first exchanges row k with row pivots[k], which has the largest number of column k. A column
    that is 0 from its diagonal on is left unchanged.
    """
    *batch, m, n = x.shape
    count = min(m, n)
    a = np.array(x, order="C").reshape(math.prod(batch), m, n)
    pivots = np.broadcast_to(np.arange(count), (len(a), count)).copy()
    every = np.arange(len(a))
    with np.errstate(all="ignore"):
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            for k in range(start, stop):
                if pivot:
                    chosen = k + _size(a[:, k:, k]).argmax(1)
                    pivots[:, k] = chosen
                    upper = a[:, k].copy()
                    a[:, k] = a[every, chosen]
                    a[every, chosen] = upper
                below = a[:, k + 1 :, k]
                below[...] = np.where(below == 0, 0, below / a[:, k, k, None])
                a[:, k + 1 :, k + 1 : stop] -= below[:, :, None] * a[:, k, None, k + 1 : stop]
            for k in range(start, stop):
                a[:, k + 1 : stop, stop:] -= a[:, k + 1 : stop, k, None] * a[:, k, None, stop:]
            a[:, stop:, stop:] -= a[:, stop:, start:stop] @ a[:, start:stop, stop:]
    return a.reshape(x.shape), pivots.reshape(*batch, count)


def _with_nan(found: Any, x: np.ndarray, of_singular: float) -> Any:
    """The determinants of x, or their logarithms, NaN where a matrix with NaN would count as a
    singular one: LAPACK takes no NaN for a pivot."""
    lost = found == of_singular
    if np.any(lost):
        lost = lost & np.isnan(x).any((-2, -1))
        found = np.where(lost, found.dtype.type(np.nan), found)
    return found


def _cofactors(x: np.ndarray) -> np.ndarray:
    """The cofactors of finite matrices, computed in float64 except by singular values."""
    n = x.shape[-1]
    if n < 2:
        return np.ones_like(x)
    wide = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64, copy=False)
    if n == 2:
        signs = np.array([[1, -1], [-1, 1]])
        return (wide[..., ::-1, ::-1] * signs).astype(x.dtype)
    if n == 3:
        rows = np.moveaxis(wide, -2, 0)
        found = np.stack([np.cross(rows[i - 2], rows[i - 1]) for i in range(3)], -2)
        return found.astype(x.dtype, copy=False)
    # By the inverse where it has its digits, and by singular values elsewhere.
    det = np.linalg.det(wide)
    regular = np.isfinite(det) & (det != 0)
    inverted = np.where(regular[..., None, None], wide, np.eye(n))
    try:
        inverse = np.linalg.inv(inverted)
    except np.linalg.LinAlgError:
        return _cofactors_of_any(x)
    condition = np.linalg.norm(inverted, axis=(-2, -1)) * np.linalg.norm(inverse, axis=(-2, -1))
    found = np.where(regular, det, 0)[..., None, None] * inverse.swapaxes(-2, -1)
    found, rest = found.astype(x.dtype), ~(regular & (condition < WELL_CONDITIONED))
    if rest.any():
        found[rest] = _cofactors_of_any(x[rest])
    return found


def _cofactors_of_any(x: np.ndarray) -> np.ndarray:
    """det(U V^H) times the conjugate of U diag(the product of the other singular values) V^H."""
    u, s, vh = np.linalg.svd(x)
    others = np.where(np.eye(s.shape[-1], dtype=bool), s.dtype.type(1), s[..., None, :]).prod(-1)
    sign = np.linalg.det(u) * np.linalg.det(vh)
    found: np.ndarray = sign[..., None, None] * (u.conj() * others[..., None, :]) @ vh.conj()
    return found
