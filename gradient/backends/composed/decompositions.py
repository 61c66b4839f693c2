"""Decompositions of matrices (..., M, N), by LAPACK on the host.

Backends whose devices have such routines of their own override them. Where several matrices are
found, they are one array, one below the other. Matrices are float32, float64 or, where adjoints
are spoken of, complex.
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
    """Have errors of LAPACK be of our class, and name the method."""

    @functools.wraps(method)
    def run(*args: Any) -> Any:
        try:
            return method(*args)
        except np.linalg.LinAlgError as error:
            raise LinAlgError(f"linalg.{method.__name__}: {error}") from None

    return cast(Method, run)


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
    def cholesky(self, x: Array) -> Array:
        """The lower L of x = L L^T, of complex x = L L^H, from the lower triangle of x
        (..., N, N)."""
        factor = np.linalg.cholesky(self.to_numpy(x))
        if np.isnan(factor).any():
            raise np.linalg.LinAlgError("expected numbers, got NaN")
        return self.asarray(factor)

    @in_float32
    def lu(self, x: Array) -> Array:
        """(..., M, N) for x (..., M, N) = L U: L below the diagonal, which is 1 in L, and U from
        the diagonal on. Rows keep their places: see `lu_pivots`."""
        return self.asarray(eliminate(self.to_numpy(x), False)[0])

    def lu_pivots(self, x: Array) -> Array:
        """int32 (..., K), K the smaller of M and N, for x (..., M, N): the row, from 0, that row k
        is to be exchanged for, k from 0 to K - 1, lest a small number divide in elimination."""
        x = self.astype(x, float32.numpy) if x.dtype in HALF_PRECISION else x
        return self.asarray(eliminate(self.to_numpy(x), True)[1].astype(np.int32))

    @in_float32
    @lapack
    def logabsdet(self, x: Array) -> Array:
        """log |det x|, for x (..., N, N); of a complex x log det x, its imaginary part an angle."""
        sign, found = np.linalg.slogdet(self.to_numpy(x))
        return self.asarray(found + 1j * np.angle(sign) if np.iscomplexobj(sign) else found)

    @in_float32
    @lapack
    def det(self, x: Array) -> Array:
        """The determinant of x (..., N, N)."""
        return self.asarray(np.linalg.det(self.to_numpy(x)))

    @in_float32
    @lapack
    def cofactor(self, x: Array) -> Array:
        """The matrix of cofactors of x (..., N, N), det(x) x^-T, which singular matrices have too:
        det(U V^H) times the conjugate of U diag(the product of the other singular values) V^H."""
        u, s, vh = np.linalg.svd(self.to_numpy(x))
        n = s.shape[-1]
        others = np.where(np.eye(n, dtype=bool), s.dtype.type(1), s[..., None, :]).prod(-1)
        sign = np.linalg.det(u) * np.linalg.det(vh)
        return self.asarray(sign[..., None, None] * (u.conj() * others[..., None, :]) @ vh.conj())

    @in_float32
    @lapack
    def eigh(self, x: Array) -> Array:
        """(..., N + 1, N): of a symmetric or Hermitian x, of which the lower triangle is read, the
        eigenvectors as columns, and below them the eigenvalues, ascending."""
        values, vectors = np.linalg.eigh(self.to_numpy(x))
        return self.asarray(np.concatenate([vectors, values[..., None, :]], -2))

    @lapack
    def eig(self, x: Array) -> Array:
        """(..., N + 1, N), complex: of x (..., N, N), the eigenvectors as columns of norm 1, and
        below them the eigenvalues, in no order."""
        host = self.to_numpy(x)
        values, vectors = np.linalg.eig(host)
        found = np.concatenate([vectors, values[..., None, :]], -2)
        return self.asarray(found.astype(np.result_type(host, np.complex64)))

    @in_float32
    @lapack
    def svd(self, x: Array) -> Array:
        """(..., M + 1 + N, K) for x (..., M, N), K the smaller of M and N: U, below it the singular
        values, descending, below them V of x = U diag(S) V^H."""
        u, s, vh = np.linalg.svd(self.to_numpy(x), full_matrices=False)
        return self.asarray(np.concatenate([u, s[..., None, :], vh.conj().swapaxes(-1, -2)], -2))

    @in_float32
    @lapack
    def qr(self, x: Array) -> Array:
        """(..., M + N, K) for x (..., M, N), K the smaller of M and N: Q, and below it R^T."""
        q, r = np.linalg.qr(self.to_numpy(x))
        return self.asarray(np.concatenate([q, r.swapaxes(-1, -2)], -2))

    @in_float32
    @lapack
    def pinv(self, x: Array, atol: float, rtol: float) -> Array:
        """The pseudo-inverse (..., N, M) of x (..., M, N). Singular values up to the larger of atol
        and rtol times the largest one count as 0."""
        u, s, vh = np.linalg.svd(self.to_numpy(x), full_matrices=False)
        bound = np.maximum(atol, rtol * s.max(-1, keepdims=True, initial=0))
        large = s > bound
        factors = np.where(large, 1 / np.where(large, s, 1), 0).astype(s.dtype)
        v, across = vh.conj().swapaxes(-1, -2), u.conj().swapaxes(-1, -2)
        return self.asarray((v * factors[..., None, :]) @ across)


def _size(x: np.ndarray) -> np.ndarray:
    """How large numbers are to LAPACK, which takes no roots."""
    return np.abs(x.real) + np.abs(x.imag) if np.iscomplexobj(x) else np.abs(x)


def eliminate(x: np.ndarray, pivot: bool) -> tuple[np.ndarray, np.ndarray]:
    """(LU, pivots), as LAPACK's getrf has them, of matrices x (..., M, N), by columns (Golub and
    Van Loan, "Matrix Computations", section 3.4.1; in blocks, section 3.2.11).

    LU is L below the diagonal, whose own diagonal is 1, and U from it on: of x if not `pivot`,
    else of x whose row k was, for k from 0, exchanged for row pivots[k], that of the largest number
    of column k. A column that is 0 from its diagonal on stays as it is.
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
