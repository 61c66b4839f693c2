"""Products with packed weights on the pool's threads: each unpacks rows of its own, and multiplies.

Unpacking is most of the work for a few inputs, and NumPy does it with one thread. The pieces are
those of the composed definitions, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed.packed import blocks_of_rows, matrix
from gradient.backends.composed.precision import composed
from gradient.backends.numpy import threads
from gradient.backends.numpy.blas import one_blas_thread
from gradient.backends.packed import PackedArray

MIN_SIZE = 1 << 18
"""Weights from which waking the pool pays."""


class PackedOnThreads:
    """Overrides for `NumpyBackend`."""

    @composed
    def quantized_matmul(be: Any, x: np.ndarray, weight: PackedArray) -> np.ndarray:
        n, k = matrix("linear", x, weight, -1)
        pieces = list(blocks_of_rows(n, k))
        if weight.size < MIN_SIZE or len(pieces) < 2:
            return super().quantized_matmul(x, weight)  # type: ignore[misc]
        rows = x.reshape(math.prod(x.shape[:-1]), k)
        out = np.empty((len(rows), n), x.dtype)

        def part(i: int) -> None:
            some = pieces[i]
            np.matmul(rows, be.unpack(weight.rows(be, (some,)), x.dtype).T, out=out[:, some])

        with one_blas_thread():
            threads.run(len(pieces), part)
        return out.reshape(*x.shape[:-1], n)
