"""Triangular systems by kernels, and decompositions of matrices by LAPACK, on one thread of the
BLAS library: its own threads would spin for a while after each call, and the last bits of a result
depend on their number."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.blas import one_blas_thread

CHUNK = 32
"""Right sides that a thread takes at a time: two vectors of float32 with AVX-512."""

LARGE = 1 << 20
"""Numbers of a matrix from which on the library may use its threads."""


class DecompositionsOnOneThread(DecompositionDefaults[np.ndarray]):
    """Overrides of `composed.decompositions`."""

    def inv(self, x: np.ndarray) -> np.ndarray:
        with _blas_threads_for(x):
            return super().inv(x)

    def solve(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with _blas_threads_for(a):
            return super().solve(a, b)

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
