"""Triangular systems by kernels, and decompositions of matrices by LAPACK, on one thread of the
BLAS library: its own threads would spin for a while after each call, and the last bits of a result
depend on their number."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.blas import one_blas_thread

CHUNK = 32
"""Right sides that a thread takes at a time: two vectors of float32 with AVX-512."""

SMALL = 16
"""Rows of a matrix up to which many are eliminated by a kernel."""

ELIMINATED = 1 << 15
"""Multiplications of small matrices that a thread does at a time."""

LARGE = 1 << 20
"""Numbers of a matrix from which on the library may use its threads."""


class DecompositionsOnOneThread(DecompositionDefaults[np.ndarray]):
    """Overrides of `composed.decompositions`."""

    def inv(self, x: np.ndarray) -> np.ndarray:
        if _are_small(x):
            eye = np.empty_like(x, order="C")
            eye[...] = np.eye(x.shape[-1])
            found = _solved(x, eye)
            if found is not None:
                return found
        with _blas_threads_for(x):
            return super().inv(x)

    def solve(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _are_small(a) and b.dtype == a.dtype and a.shape[:-1] == b.shape[:-1]:
            found = _solved(a, np.array(b, order="C"))
            if found is not None:
                return found
        with _blas_threads_for(a):
            return super().solve(a, b)

    def det(self, x: np.ndarray) -> np.ndarray:
        if not _are_small(x):
            return super().det(x)
        matrix, out = np.array(x, order="C").reshape(-1), np.empty(x.shape[:-2], x.dtype)
        _of_each(kernels.load("elimination").determinants, x, matrix, out.reshape(-1))
        return out if np.isfinite(out).all() else super().det(x)

    def logabsdet(self, x: np.ndarray) -> np.ndarray:
        return _logarithms(x)[1] if _are_small(x) else super().logabsdet(x)

    def det_sign(self, x: np.ndarray) -> np.ndarray:
        if not _are_small(x) or not np.isfinite(x).all():
            return super().det_sign(x)
        return _logarithms(x.astype(np.float64, copy=False))[0]

    def solve_triangular(self, a: np.ndarray, b: np.ndarray, lower: bool) -> np.ndarray:
        turned = a.ndim == 2 and a.T.flags.c_contiguous and not a.flags.c_contiguous
        rows = a.T if turned else workspace.contiguous(a)  # those of a, or its columns
        if not (a.ndim == b.ndim == 2 and len(a) == len(b) and kernels.supports(rows, b)):
            return super().solve_triangular(a, b, lower)
        family, x = kernels.load("triangular"), self.copy(b)
        (n, columns), flat = x.shape, x.reshape(-1)
        if columns == 1:
            matrix = workspace.contiguous(a).reshape(-1)
            threads.parallel_for(family.substitute_one, 1, 1, matrix, n, flat, lower)
            return x
        places = rows.reshape(-1), *((1, n) if turned else (n, 1))
        threads.parallel_for(family.substitute, columns, CHUNK, *places, n, flat, columns, lower)
        return x

    def cholesky(self, x: np.ndarray) -> np.ndarray:
        if x.size < LARGE and x.ndim > 1 and x.shape[-1] == x.shape[-2] and kernels.supports(x):
            lower, done = x.copy(), np.empty(x.size // x.shape[-1] ** 2, np.bool_)
            kernel, n = kernels.load("cholesky").cholesky, x.shape[-1]
            threads.parallel_for(kernel, done.size, 1, lower.reshape(-1), n, done)
            if done.all():  # else an error, which is the default's
                return lower
        with _blas_threads_for(x):
            return super().cholesky(x)


def _blas_threads_for(x: np.ndarray) -> AbstractContextManager[None]:
    """The context of a decomposition of x: one thread of the BLAS library, unless x is large."""
    return one_blas_thread() if x.size < LARGE else nullcontext()


def _are_small(x: np.ndarray) -> bool:
    """Whether elimination by a kernel is quicker than a call of LAPACK for each matrix."""
    return (
        type(x) is np.ndarray
        and x.ndim > 2
        and x.shape[-2] == x.shape[-1] <= SMALL
        and x.size >= kernels.MIN_SIZE
        and x.dtype in kernels.FLOATS
        and kernels.available()
    )


def _solved(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The solutions of a x = b, in place of b, which is contiguous; None if there is a singular
    matrix, or numbers are not finite: LAPACK decides what these give."""
    (*batch, n, columns), matrix = b.shape, np.array(a, order="C")
    done, chunk = (
        np.empty(math.prod(batch), np.bool_),
        max(1, ELIMINATED // (n * n * (n + columns))),
    )
    threads.parallel_for(
        kernels.load("elimination").solve, done.size, chunk,
        matrix.reshape(-1), n, b.reshape(-1), columns, done,
    )  # fmt: skip
    return b if done.all() and np.isfinite(b).all() else None


def _logarithms(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The signs of determinants, in float64, and the logarithms of their magnitudes."""
    matrix, out = np.array(x, order="C").reshape(-1), np.empty(x.shape[:-2], x.dtype)
    signs = np.empty(x.shape[:-2])
    _of_each(kernels.load("elimination").logarithms, x, matrix, signs.reshape(-1), out.reshape(-1))
    return signs, out


def _of_each(kernel: Any, x: np.ndarray, matrix: np.ndarray, *out: np.ndarray) -> None:
    """Run a kernel over the matrices of x, of which `matrix` is a flat copy."""
    n = x.shape[-1]
    threads.parallel_for(kernel, out[0].size, max(1, ELIMINATED // n**3), matrix, n, *out)
