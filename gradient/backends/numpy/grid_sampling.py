"""Images between their pixels by kernels, which find the four pixels of a place once for all
channels."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.grid_sampling import GridSamplingDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.required import Shape


class GridSamplingKernels(GridSamplingDefaults[np.ndarray]):
    """Overrides of `composed.grid_sampling`."""

    def bilinear_sample(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        places = kernels.contiguous(places)
        if not _takes(x.size, places, x):
            return super().bilinear_sample(x, places)
        family = kernels.load("grid_sampling")
        images, points, _ = places.shape
        out = np.empty((*x.shape[:2], points), x.dtype)
        threads.parallel_for(
            family.bilinear_sample, images * -(-points // family.SOME), 1,
            kernels.contiguous(x).reshape(-1), places.reshape(-1), *x.shape[1:], points,
            out.reshape(-1),
        )  # fmt: skip
        return out

    def bilinear_sample_grad(self, g: np.ndarray, places: np.ndarray, shape: Shape) -> np.ndarray:
        places = kernels.contiguous(places)
        if not _takes(math.prod(shape), places, g):
            return super().bilinear_sample_grad(g, places, shape)
        family = kernels.load("grid_sampling")
        images, channels, height, width = shape
        out = np.empty(shape, g.dtype)
        threads.parallel_for(
            family.bilinear_sample_grad, images * -(-channels // family.SOME_PLANES), 1,
            kernels.contiguous(g).reshape(-1), places.reshape(-1), channels, height, width,
            places.shape[1], out.reshape(-1),
        )  # fmt: skip
        return out

    def bilinear_sample_places_grad(
        self, g: np.ndarray, x: np.ndarray, places: np.ndarray
    ) -> np.ndarray:
        places = kernels.contiguous(places)
        if not _takes(x.size, places, g, x):
            return super().bilinear_sample_places_grad(g, x, places)
        family = kernels.load("grid_sampling")
        images, points, _ = places.shape
        out = np.empty(places.shape, g.dtype)
        threads.parallel_for(
            family.bilinear_sample_places_grad, images * -(-points // family.SOME), 1,
            kernels.contiguous(g).reshape(-1), kernels.contiguous(x).reshape(-1),
            places.reshape(-1), *x.shape[1:], points, out.reshape(-1),
        )  # fmt: skip
        return out


def _takes(size: int, places: np.ndarray, *others: np.ndarray) -> bool:
    """Whether kernels take places in an image of `size` numbers, and other arrays."""
    return size > 0 and kernels.supports(places, *others)
