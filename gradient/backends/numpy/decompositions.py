"""Decompositions of matrices by LAPACK, on one thread of the BLAS library: its own threads would
spin for a while after each call, and the last bits of a result depend on their number."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.numpy.blas import one_blas_thread

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

    def cholesky(self, x: np.ndarray) -> np.ndarray:
        if _is_large(x):
            return super().cholesky(x)
        with one_blas_thread():
            return super().cholesky(x)


def _is_large(x: np.ndarray) -> bool:
    return x.size >= LARGE
