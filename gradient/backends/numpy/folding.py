"""All windows of an input as an array, and the sums of such windows, by kernels."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.windows import three
from gradient.backends.required import Shape

CHUNK = 1 << 14
"""Elements of windows that a thread takes at a time."""


class FoldingKernels(ShapeDefaults[np.ndarray]):
    """Overrides of `composed.shape` for up to three dimensions."""

    def unfold(self, x: np.ndarray, kernel: Shape, stride: Shape, dilation: Shape) -> np.ndarray:
        counts = tuple(
            (n - d * (k - 1) - 1) // s + 1
            for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
        )
        shape = (*x.shape[:2], math.prod(kernel), *counts)
        if not _takes(x, shape):
            return super().unfold(x, kernel, stride, dilation)
        out = workspace.result(shape, x.dtype)
        _run("unfold", x, x.shape[2:], counts, kernel, stride, dilation, out)
        return out

    def fold(
        self, x: np.ndarray, shape: Shape, kernel: Shape, stride: Shape, dilation: Shape
    ) -> np.ndarray:
        if not _takes(x, x.shape):
            return super().fold(x, shape, kernel, stride, dilation)
        out = workspace.result(tuple(shape), x.dtype)
        _run("fold", x, tuple(shape[2:]), x.shape[3:], kernel, stride, dilation, out)
        return out


def _takes(x: np.ndarray, windows: Shape) -> bool:
    return (
        type(x) is np.ndarray
        and x.dtype in kernels.FLOATS
        and len(windows) <= 6
        and math.prod(windows) >= kernels.MIN_SIZE
        and kernels.available()
    )


def _run(
    kernel: str,
    x: np.ndarray,
    sizes: Shape,
    counts: Shape,
    size: Shape,
    stride: Shape,
    dilation: Shape,
    out: np.ndarray,
) -> None:
    planes = x.shape[0] * x.shape[1]
    threads.parallel_for(
        getattr(kernels.load("folding"), kernel), planes,
        max(1, CHUNK // (math.prod(size) * math.prod(counts))),
        workspace.contiguous(x).reshape(-1), three(sizes, 1), three(counts, 1), three(size, 1),
        three(stride, 1), three(dilation, 1), out.reshape(-1),
    )  # fmt: skip
