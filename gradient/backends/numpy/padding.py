"""Padding by a kernel that writes each number once."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.numpy import kernels, threads

PLANES = 1 << 14
"""Numbers of whole planes that a thread takes at a time."""


class PaddingKernels(ShapeDefaults[np.ndarray]):
    """Overrides for `NumpyBackend`."""

    def pad(
        self, x: np.ndarray, widths: tuple[tuple[int, int], ...], value: complex = 0
    ) -> np.ndarray:
        around = [(0, 0), *widths]  # so that there is at least a row
        if (
            not (widths and kernels.supports(x))
            or any(pair != (0, 0) for pair in around[:-2])
            or min(map(min, around)) < 0
        ):
            return super().pad(x, widths, value)
        (top, bottom), (left, right) = around[-2:]
        rows, columns = (1, *x.shape)[-2:]
        shape = tuple(a + n + b for n, (a, b) in zip(x.shape, widths, strict=True))
        out = np.empty(shape, x.dtype)
        planes = math.prod(x.shape[:-2])
        threads.parallel_for(
            *(kernels.load("padding").pad, planes, max(1, PLANES // (rows * columns))),
            *(x.reshape(-1), rows, columns, top, bottom, left, right),
            *(float(value.real), out.reshape(-1)),
        )
        return out
