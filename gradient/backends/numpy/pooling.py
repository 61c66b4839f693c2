"""Max pooling by kernels, which need no array of all windows, and resizing."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.pooling import PoolingDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.windows import three
from gradient.backends.options import PoolingOptions
from gradient.backends.required import Shape

PLANES = 1 << 14
"""Numbers of whole planes that a thread takes at a time."""

OF_FOUR = ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
"""The options for windows of 2 x 2, none of which overlap, without padding."""


class PoolingKernels(PoolingDefaults[np.ndarray]):
    """Overrides of `composed.pooling`."""

    def max_pool(self, x: np.ndarray, options: PoolingOptions) -> tuple[np.ndarray, np.ndarray]:
        lead, sizes = options.split(x.shape)
        x = kernels.contiguous(x) if x.size >= kernels.MIN_SIZE else x
        # Numbers further apart than the input is long: a window may have none of it.
        sparse = any(d > n for d, n in zip(options.dilation, sizes, strict=True))
        if sparse or not kernels.supports(x) or math.prod(sizes) >= 1 << 31:
            return super().max_pool(x, options)
        family = kernels.load("pooling")
        windows = options.windows(sizes)
        y = np.empty((*lead, *windows), x.dtype)
        indices = np.empty(y.shape, np.int64)
        if options[:4] == OF_FOUR:
            threads.parallel_for(
                family.max_pool_of_four, math.prod(lead), max(1, PLANES // math.prod(sizes)),
                x.reshape(-1), *sizes, y.reshape(-1), indices.reshape(-1),
            )  # fmt: skip
            return y, indices
        threads.parallel_for(
            family.max_pool, math.prod(lead), max(1, PLANES // math.prod(sizes)), x.reshape(-1),
            three(sizes, 1), three(windows, 1), three(options.kernel, 1), three(options.stride, 1),
            three([before for before, _ in options.padding], 0), three(options.dilation, 1),
            y.reshape(-1), indices.reshape(-1),
        )  # fmt: skip
        return y, indices

    def max_pool_grad(
        self, g: np.ndarray, indices: np.ndarray, shape: Shape, options: PoolingOptions
    ) -> np.ndarray:
        lead, sizes = options.split(shape)
        g = kernels.contiguous(g) if g.size >= kernels.MIN_SIZE else g
        if not kernels.supports(g):
            return super().max_pool_grad(g, indices, shape, options)
        out = np.empty(shape, g.dtype)
        planes, size = math.prod(lead), math.prod(sizes)
        if options[:4] == OF_FOUR:
            threads.parallel_for(
                kernels.load("pooling").max_pool_of_four_grad, planes, max(1, PLANES // size),
                g.reshape(-1), kernels.contiguous(indices).reshape(-1), *sizes, out.reshape(-1),
            )  # fmt: skip
            return out
        threads.parallel_for(
            kernels.load("pooling").max_pool_grad, planes, max(1, PLANES // size),
            g.reshape(-1), kernels.contiguous(indices).reshape(-1), g.size // planes, size,
            out.reshape(-1),
        )  # fmt: skip
        return out

    def resize(
        self, x: np.ndarray, fraction: np.ndarray, low: np.ndarray, high: np.ndarray, axis: int
    ) -> np.ndarray:
        if not kernels.supports(x, fraction):
            return super().resize(x, fraction, low, high, axis)
        out = np.empty((*x.shape[:axis], low.size, *x.shape[axis + 1 :]), x.dtype)
        outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        threads.parallel_for(
            kernels.load("resizing").resize, outer, max(1, PLANES // max(1, low.size * inner)),
            kernels.contiguous(x).reshape(-1), x.shape[axis], inner, kernels.contiguous(low),
            kernels.contiguous(high), kernels.contiguous(fraction), out.reshape(-1),
        )  # fmt: skip
        return out

    def resize_grad(
        self,
        g: np.ndarray,
        fraction: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        size: int,
        axis: int,
    ) -> np.ndarray:
        if not kernels.supports(g, fraction):
            return super().resize_grad(g, fraction, low, high, size, axis)
        out = np.empty((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
        outer, inner = math.prod(g.shape[:axis]), math.prod(g.shape[axis + 1 :])
        threads.parallel_for(
            kernels.load("resizing").resize_grad, outer, max(1, PLANES // max(1, low.size * inner)),
            kernels.contiguous(g).reshape(-1), size, inner, kernels.contiguous(low),
            kernels.contiguous(high), kernels.contiguous(fraction), out.reshape(-1),
        )  # fmt: skip
        return out
