"""Gathering and adding along an axis by kernels, where there is one index for every place."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.numpy import kernels, threads

CHUNK = 1 << 13
"""Elements of whole rows that a thread takes at a time."""


class AlongKernels(ArrayAPIBackend):
    """Overrides for `NumpyBackend`, of indices that are not negative."""

    def take_along(self, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
        axis %= max(x.ndim, 1)
        if not (kernels.supports(x) and _fits(x, index, axis)):
            return super().take_along(x, index, axis)
        out = np.empty(index.shape, x.dtype)
        outer, chunk, sizes = _work(x, index, axis)
        threads.parallel_for(
            *(kernels.load("along").take, outer, chunk, x.reshape(-1), x.shape[axis]),
            *(index.reshape(-1), *sizes, out.reshape(-1)),
        )
        return out

    def put_along(
        self, x: np.ndarray, index: np.ndarray, value: np.ndarray, axis: int, add: bool
    ) -> np.ndarray:
        axis %= max(x.ndim, 1)
        if not (
            add
            and value.shape == index.shape
            and kernels.supports(x, value)
            and x.flags.carray
            and _fits(x, index, axis)
        ):
            return super().put_along(x, index, value, axis, add)
        outer, chunk, sizes = _work(x, index, axis)
        threads.parallel_for(
            *(kernels.load("along").add, outer, chunk, x.reshape(-1), x.shape[axis]),
            *(index.reshape(-1), *sizes, kernels.contiguous(value).reshape(-1)),
        )
        return x


def _fits(x: np.ndarray, index: np.ndarray, axis: int) -> bool:
    """Whether the index is large, of x's shape but for the axis, and within that."""
    return (
        type(index) is np.ndarray
        and index.size >= kernels.MIN_SIZE
        and index.dtype == np.int64
        and index.flags.carray
        and index.ndim == x.ndim
        and index.shape[:axis] == x.shape[:axis]
        and index.shape[axis + 1 :] == x.shape[axis + 1 :]
        and bool(np.maximum.reduce(index.view(np.uint64), None) < x.shape[axis])
    )


def _work(x: np.ndarray, index: np.ndarray, axis: int) -> tuple[int, int, tuple[int, int]]:
    """How many rows there are before the axis, how many of them a thread takes at a time, and the
    index's sizes along the axis and behind it."""
    m, inner = index.shape[axis], math.prod(index.shape[axis + 1 :])
    return math.prod(index.shape[:axis]), max(1, CHUNK // (m * inner)), (m, inner)
