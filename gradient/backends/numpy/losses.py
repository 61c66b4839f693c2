"""Losses of two arrays by kernels: one pass for the loss, and one for its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.kernels import contiguous
from gradient.backends.numpy.reductions import CHUNK, sum_of_parts

MANY = 1 << 13
"""Elements from which a kernel is quicker than a difference and a dot product, each a call."""


_DEFAULTS: Any = NormDefaults
SMALL_HUBER = _DEFAULTS.huber_error.__wrapped__
"""The default without its look for 16-bit floats."""


class LossKernels(NormDefaults[np.ndarray]):
    """Overrides of losses of `composed.norms`."""

    def squared_error(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if x.size < MANY and _are_floats_alike(x, target) and not small_calls.are_repeated():
            gap = (x - target).ravel()
            return gap.dot(gap)
        if not _takes(x, target):
            return super().squared_error(x, target)
        return _sum(kernels.load("losses").squared_error, x, target)

    def scaled_gap(self, scale: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not (_takes(x, target) and _is_number(scale, x)):
            return super().scaled_gap(scale, x, target)
        return _each(kernels.load("losses").scaled_gap, scale, x, target)

    def huber_error(
        self, x: np.ndarray, target: np.ndarray, delta: float, divisor: float
    ) -> np.ndarray:
        is_small = x.size < kernels.MIN_SIZE and not small_calls.are_repeated()
        if is_small and _are_floats_alike(x, target):
            if delta == 0:
                return abs(x - target).sum()
            return SMALL_HUBER(self, x, target, delta, divisor)
        if not _takes(x, target):
            return super().huber_error(x, target, delta, divisor)
        numbers = float(delta), float(divisor)
        return _sum(kernels.load("losses").huber_error, x, target, *numbers)

    def huber_error_grad(
        self, g: np.ndarray, x: np.ndarray, target: np.ndarray, delta: float, divisor: float
    ) -> np.ndarray:
        if not (_takes(x, target) and _is_number(g, x)):
            return super().huber_error_grad(g, x, target, delta, divisor)
        numbers = float(delta), float(divisor)
        return _each(kernels.load("losses").huber_error_grad, g, x, target, *numbers)

    def logistic_error(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not _takes(x, target):
            return super().logistic_error(x, target)
        return _sum(kernels.load("losses").logistic_error, x, target)

    def logistic_error_grad(self, g: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not (_takes(x, target) and _is_number(g, x)):
            return super().logistic_error_grad(g, x, target)
        return _each(kernels.load("losses").logistic_error_grad, g, x, target)


def _are_floats_alike(x: np.ndarray, target: np.ndarray) -> bool:
    """Whether both are arrays of one shape and float dtype, in any order."""
    return (
        type(x) is np.ndarray
        and x.dtype in kernels.FLOATS
        and target.dtype is x.dtype
        and target.shape == x.shape
    )


def _takes(x: np.ndarray, target: np.ndarray) -> bool:
    return kernels.supports(x, target) and x.shape == target.shape


def _is_number(scale: Any, x: np.ndarray) -> bool:
    return scale.shape == () and scale.dtype == x.dtype


def _sum(kernel: Any, x: np.ndarray, target: np.ndarray, *numbers: float) -> np.ndarray:
    part = kernels.load("reductions").PART
    parts = -(-x.size // part)
    sums = np.empty(parts, x.dtype)
    flat = contiguous(x).ravel(), contiguous(target).ravel()
    threads.parallel_for(kernel, parts, max(1, CHUNK // part), *flat, sums, *numbers)
    return sum_of_parts(sums) if parts > 1 else sums[0]


def _each(
    kernel: Any, scale: np.ndarray, x: np.ndarray, target: np.ndarray, *numbers: float
) -> np.ndarray:
    out = np.empty(x.shape, x.dtype)
    arrays = contiguous(scale), contiguous(x), contiguous(target), out
    threads.parallel_for(kernel, x.size, 2 * CHUNK, *[a.ravel() for a in arrays], *numbers)
    return out
