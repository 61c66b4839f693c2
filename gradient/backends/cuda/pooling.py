"""Max pooling by kernels, which need no array of all windows."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.pooling import PoolingDefaults
from gradient.backends.cuda.launching import KernelLauncher
from gradient.backends.cuda.windows import counts_in_32_bits, slide
from gradient.backends.options import PoolingOptions
from gradient.backends.required import Shape


class PoolingKernels(KernelLauncher, PoolingDefaults[Array]):
    """Overrides of `composed.pooling`."""

    def max_pool(self, x: Array, options: PoolingOptions) -> tuple[Array, Array]:
        lead, sizes = options.split(x.shape)
        if not (self.has_kernel(x) and _fit(sizes, options)):
            return super().max_pool(x, options)
        y = self.empty((*lead, *options.windows(sizes)), x.dtype)
        index = self.empty(y.shape, np.dtype(np.int64))
        self.launch_numbers(
            "pooling", "max_pool", y, self.contiguous(x), y, index, _slide(lead, sizes, options),
            np.float32(options.least),
        )  # fmt: skip
        return y, index

    def max_pool_grad(
        self, g: Array, indices: Array, shape: Shape, options: PoolingOptions
    ) -> Array:
        lead, sizes = options.split(tuple(shape))
        if (
            not (self.has_kernel(g) and _fit(sizes, options))
            or g.shape != (*lead, *options.windows(sizes))
            or indices.shape != g.shape
            or indices.dtype != np.int64
        ):
            return super().max_pool_grad(g, indices, shape, options)
        gx = self.empty(tuple(shape), g.dtype)
        given = self.contiguous(g), self.contiguous(indices), gx, _slide(lead, sizes, options)
        self.launch_numbers("pooling", "max_pool_grad", gx, *given)
        return gx


def _fit(sizes: Shape, options: PoolingOptions) -> bool:
    return min(sizes, default=0) > 0 and counts_in_32_bits(1, sizes, options.windows(sizes), 1)


def _slide(lead: Shape, sizes: Shape, options: PoolingOptions) -> np.ndarray:
    return slide(
        (math.prod(lead), 1, 1, 1), size=sizes, windows=options.windows(sizes),
        kernel=options.kernel, stride=options.stride, dilation=options.dilation,
        before=tuple(before for before, _ in options.padding),
    )  # fmt: skip
