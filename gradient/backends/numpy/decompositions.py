"""Triangular systems by kernels, and decompositions of matrices by LAPACK, on one thread of the
BLAS library: its own threads would spin for a while after each call, and the last bits of a result
depend on their number."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.blas import one_blas_thread

CHUNK = 64
"""Right sides that a thread takes at a time: four vectors of float32."""

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
        if not (a.ndim == b.ndim == 2 and len(a) == len(b)):
            return super().solve_triangular(a, b, lower)
        a = workspace.contiguous(a)  # in gradients it is transposed
        if not kernels.supports(a, b):
            return super().solve_triangular(a, b, lower)
        family, x = kernels.load("triangular"), self.copy(b)
        matrix, (n, columns), flat = a.reshape(-1), x.shape, x.reshape(-1)
        if columns == 1:
            threads.parallel_for(family.substitute_one, 1, 1, matrix, n, flat, lower)
        else:
            threads.parallel_for(family.substitute, columns, CHUNK, matrix, n, flat, columns, lower)
        return x

    def cholesky(self, x: np.ndarray) -> np.ndarray:
        with _blas_threads_for(x):
            return super().cholesky(x)


def _blas_threads_for(x: np.ndarray) -> AbstractContextManager[None]:
    """The context of a decomposition of x: one thread of the BLAS library, unless x is large."""
    return one_blas_thread() if x.size < LARGE else nullcontext()
