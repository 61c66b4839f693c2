"""Batch normalisation and its gradient by kernels, a block for each channel."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.batch_norm import BatchNormDefaults
from gradient.backends.cuda.launching import KernelLauncher, block_of, computed_in


class BatchNormKernels(KernelLauncher, BatchNormDefaults[Array]):
    """Overrides of `composed.batch_norm`."""

    def batch_norm(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        if not self._has_channels(x, weight, bias):
            return super().batch_norm(x, weight, bias, eps)
        number, sizes = computed_in(x), _sizes(x)
        y = self.empty(x.shape, x.dtype)
        mean, rstd = (self.empty((x.shape[1],), np.dtype(number)) for _ in range(2))
        self.launch(
            "batch_norm", "batch_norm", x, (x.shape[1],), block_of(x.size // x.shape[1]),
            self.contiguous(x), self.optional(weight), self.optional(bias), y, mean, rstd,
            *sizes, number(eps),
        )  # fmt: skip
        return y, mean, rstd

    def batch_norm_grad(
        self, g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
    ) -> tuple[Array, Array | None, Array]:
        if not self._has_channels(x, g, weight) or g.shape != x.shape:
            return super().batch_norm_grad(g, x, weight, mean, rstd)
        number = computed_in(x)
        gx = self.empty(x.shape, x.dtype)
        gw, gb = (self.empty((x.shape[1],), np.dtype(number)) for _ in range(2))
        self.launch(
            "batch_norm", "batch_norm_grad", x, (x.shape[1],), block_of(x.size // x.shape[1]),
            self.contiguous(g), self.contiguous(x), self.optional(weight),
            self.statistic(mean, number), self.statistic(rstd, number), gx, gw, gb,
            *_sizes(x),
        )  # fmt: skip
        return gx, None if weight is None else gw, gb

    def _has_channels(self, x: Array, *others: Array | None) -> bool:
        """Whether the kernels take these arrays: 32 bits must count a channel's elements."""
        return self.has_kernel(x, *others) and x.ndim > 1 and x.size // x.shape[1] < 2**31


def _sizes(x: Array) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])
