"""Random numbers by a kernel: those of dropout and of everything else that draws."""

from __future__ import annotations

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.rng import RandomDefaults
from gradient.backends.cuda.launching import KernelLauncher
from gradient.dtypes import float32, float64

BLOCK = 256


class RandomKernels(KernelLauncher, RandomDefaults[Array]):
    """Overrides of `composed.rng`."""

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Array, int]:
        if not n:
            return super().uniform(key, offset, n, dtype)
        wide = dtype == float64.numpy
        blocks = -(-n // (2 if wide else 4))
        out = self.empty((n,), float64.numpy if wide else float32.numpy)
        self.launch(
            "random", "uniform", out, (-(-blocks // BLOCK),), BLOCK, out,
            *np.array([key, offset], np.uint64).view(np.int64), np.int64(n),
        )  # fmt: skip
        return out, blocks
