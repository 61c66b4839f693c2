"""Decompositions of matrices by LAPACK, on one thread of the BLAS library: its own threads would
spin for a while after each call, and the last bits of a result depend on their number."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.blas import one_blas_thread
from gradient.backends.numpy.kernels import contiguous

CHUNK = 64
"""Right sides that a thread takes at a time: four vectors of float32."""

LARGE = 1 << 20
"""Numbers of a matrix from which on the library may use its threads."""


class DecompositionsOnOneThread(DecompositionDefaults[np.ndarray]):
    """Overrides of `composed.decompositions`."""

    def inv(self, x: np.ndarray) -> np.ndarray:
        if _is_large(x):
            return super().inv(x)
        with one_blas_thread():
            return super().inv(x)

    def solve(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _is_large(a):
            return super().solve(a, b)
        with one_blas_thread():
            return super().solve(a, b)

    def solve_triangular(self, a: np.ndarray, b: np.ndarray, lower: bool) -> np.ndarray:
        if not (a.ndim == b.ndim == 2 and len(a) == len(b) and kernels.supports(a, b)):
            return super().solve_triangular(a, b, lower)
        family, x = kernels.load("triangular"), np.array(b, order="C")
        matrix, (n, columns), flat = contiguous(a).reshape(-1), x.shape, x.reshape(-1)
        if columns == 1:
            threads.parallel_for(family.substitute_one, 1, 1, matrix, n, flat, lower)
        else:
            threads.parallel_for(family.substitute, columns, CHUNK, matrix, n, flat, columns, lower)
        return x

    def cholesky(self, x: np.ndarray) -> np.ndarray:
        if _is_large(x):
            return super().cholesky(x)
        with one_blas_thread():
            return super().cholesky(x)


def _is_large(x: np.ndarray) -> bool:
    return x.size >= LARGE
