"""Random numbers by kernels: bit for bit those of the composed definition."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from gradient.backends.composed.rng import RandomDefaults
from gradient.backends.numpy import kernels, threads

KERNELS = "gradient.backends.numpy.kernels.rng"


class RandomKernels(RandomDefaults[np.ndarray]):
    """Overrides of `composed.rng`."""

    def philox(self, key: int, offset: int, blocks: int) -> np.ndarray:
        if not _many(4 * blocks):
            return super().philox(key, offset, blocks)
        rng = kernels.load("rng")

        return _blocks(rng.words, key, offset, np.empty((blocks, 4), np.uint32)).reshape(-1)

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
        if not _many(n):
            return super().uniform(key, offset, n, dtype)
        rng = kernels.load("rng")

        # As the composed definition has it: float64 where asked for, float32 for every other type.
        if dtype == np.float64:
            kernel, out = rng.uniform8, np.empty((-(-n // 2), 2), np.float64)
        else:
            kernel, out = rng.uniform4, np.empty((-(-n // 4), 4), np.float32)
        return _blocks(kernel, key, offset, out).reshape(-1)[:n], len(out)


def _many(n: int) -> bool:
    """Whether to draw n numbers by a kernel.

    Both ways give the same bits, so the choice may hang on what is loaded already: waiting for
    numba pays from a million numbers on, for the kernels from MIN_SIZE; once there, they win.
    """
    if KERNELS in sys.modules:
        return n > 0
    least = kernels.MIN_SIZE if "numba" in sys.modules else 1 << 20
    return n >= least and kernels.available()


def _blocks(kernel: Callable[..., None], key: int, offset: int, out: np.ndarray) -> np.ndarray:
    word = (1 << 64) - 1
    arguments = np.uint64(key & word), np.uint64(offset & word), out
    threads.parallel_for(kernel, len(out), kernels.load("rng").CHUNK, *arguments)
    return out
