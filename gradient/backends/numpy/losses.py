"""Losses of two arrays by kernels: in one pass, and their gradients in another."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.composed.norms import NormDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.kernels import contiguous
from gradient.backends.numpy.reductions import CHUNK, MANY, sum_of_parts


class LossKernels(NormDefaults[np.ndarray]):
    """Overrides of those of `composed.norms`."""

    def squared_error(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not _takes(x, target):
            return super().squared_error(x, target)
        return _sum(kernels.load("losses").squared_error, x, target)

    def scaled_gap(self, scale: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not (_takes(x, target) and _is_number(scale, x)):
            return super().scaled_gap(scale, x, target)
        return _each(kernels.load("losses").scaled_gap, scale, x, target)

    def logistic_error(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not _takes(x, target):
            return super().logistic_error(x, target)
        return _sum(kernels.load("losses").logistic_error, x, target)

    def logistic_error_grad(self, g: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not (_takes(x, target) and _is_number(g, x)):
            return super().logistic_error_grad(g, x, target)
        return _each(kernels.load("losses").logistic_error_grad, g, x, target)


def _takes(x: np.ndarray, target: np.ndarray) -> bool:
    return x.size >= MANY and kernels.supports(x, target) and x.shape == target.shape


def _is_number(scale: Any, x: np.ndarray) -> bool:
    return scale.shape == () and scale.dtype == x.dtype


def _sum(kernel: Any, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    part = kernels.load("reductions").PART
    sums = np.empty(-(-x.size // part), x.dtype)
    flat = x.reshape(-1), contiguous(target).reshape(-1)
    threads.parallel_for(kernel, sums.size, max(1, CHUNK // part), *flat, sums)
    return sum_of_parts(sums)


def _each(kernel: Any, scale: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape, x.dtype)
    arrays = contiguous(scale), contiguous(x), contiguous(target), out
    threads.parallel_for(kernel, x.size, 2 * CHUNK, *(a.reshape(-1) for a in arrays))
    return out
