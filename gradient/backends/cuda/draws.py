"""Random numbers by kernels: dropout, uniform and normal numbers, and sampling in proportion to
weights."""

from __future__ import annotations

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.rng import RandomDefaults
from gradient.backends.cuda.launching import KernelLauncher, block_of, computed_in
from gradient.dtypes import float32, float64, int64

BLOCK = 256
IN_ONE_BLOCK, PART = 8192, 4096
"""Weights of a row up to which one block draws, and of a part of a longer one."""
WIDE = float32.numpy, float64.numpy
"""Of 16-bit weights, sums are rounded before they are compared: left to the default."""


class RandomKernels(KernelLauncher, RandomDefaults[Array]):
    """Overrides of `composed.rng`."""

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Array, int]:
        if not n:
            self.without_device_numbers(key, offset)
            return super().uniform(key, offset, n, dtype)
        blocks = _blocks(n, dtype)
        return self._drawn("uniform", blocks, key, offset, n, dtype), blocks

    def normal(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Array, int]:
        if not n:
            self.without_device_numbers(key, offset)
            return super().normal(key, offset, n, dtype)
        half = -(-n // 2)
        return self._drawn("normal", half, key, offset, n, dtype), _blocks(2 * half, dtype)

    def _drawn(
        self, kernel: str, threads: int, key: int, offset: int, n: int, dtype: np.dtype
    ) -> Array:
        out = self.empty((n,), float64.numpy if dtype == float64.numpy else float32.numpy)
        self.launch(
            "random", kernel, out, (-(-threads // BLOCK),), BLOCK, out,
            self.count_argument(key), self.count_argument(offset), n,
        )  # fmt: skip
        return out

    def dropout(self, key: int, offset: int, x: Array, p: float) -> tuple[Array, int]:
        if not self.has_kernel(x):
            self.without_device_numbers(key, offset)
            return super().dropout(key, offset, x, p)
        number, blocks = computed_in(x), _blocks(x.size, float32.numpy)
        out = self.empty(x.shape, x.dtype)
        self.launch(
            "random", "dropout", x, (-(-blocks // BLOCK),), BLOCK, self.contiguous(x), out,
            self.count_argument(key), self.count_argument(offset), x.size,
            np.float32(p), number(x.dtype.type(1 / (1 - p))),
        )  # fmt: skip
        return out, blocks

    def categorical(self, weights: Array, uniform: Array) -> Array:
        if weights.dtype not in WIDE or not self.has_kernel(weights, uniform):
            return super().categorical(weights, uniform)
        out = self.empty(uniform.shape, int64.numpy)
        weights, uniform = self.contiguous(weights), self.contiguous(uniform)
        rows, columns = uniform.size, weights.shape[-1]
        parts = -(-columns // PART) if columns > IN_ONE_BLOCK else 1
        of_part = PART if parts > 1 else columns
        block, sums = block_of(of_part), None
        if parts > 1:
            sums = self.empty((rows, parts), np.dtype(computed_in(weights)))
            self.launch(
                "scans", "part_sums", weights, (rows * parts,), block,
                weights, sums, columns, of_part,
            )  # fmt: skip
        self.launch(
            "scans", "categorical", weights, (rows,), block,
            weights, uniform, sums, out, columns, of_part,
        )  # fmt: skip
        return out


def _blocks(n: int, dtype: np.dtype) -> int:
    """The number of Philox blocks for n uniform numbers."""
    return -(-n // (2 if dtype == float64.numpy else 4))
