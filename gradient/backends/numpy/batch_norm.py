"""Batch and group normalisation by kernels that process a whole channel, or group, at a time."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.batch_norm import BatchNormDefaults
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.kernels import contiguous

CHANNELS = 1 << 15
"""Numbers of whole channels that a thread takes at a time."""


class BatchNormKernels(BatchNormDefaults[np.ndarray]):
    """Overrides of `composed.batch_norm`."""

    def channel_moments(self, x: np.ndarray) -> np.ndarray:
        x = workspace.in_rows(x)
        if not kernels.supports(x):
            return super().channel_moments(x)
        out = np.empty((2, x.shape[1]), x.dtype)
        if _are_columns(x):
            threads.parallel_for(
                kernels.load("batch_norm").column_moments, *_column_work(x), x.reshape(-1),
                *x.shape, *_column_memory(x), out.reshape(-1),
            )  # fmt: skip
            return out
        threads.parallel_for(
            kernels.load("batch_norm").channel_moments, *_work(x), x.reshape(-1), *_sizes(x),
            out.reshape(-1),
        )  # fmt: skip
        return out

    def batch_norm(
        self, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = workspace.in_rows(x)
        if not kernels.supports(x, weight, bias):
            return super().batch_norm(x, weight, bias, eps)
        y, (mean, rstd) = np.empty(x.shape, x.dtype), np.empty((2, x.shape[1]), x.dtype)
        if _are_columns(x):
            threads.parallel_for(
                kernels.load("batch_norm").column_batch_norm, *_column_work(x), x.reshape(-1),
                *x.shape, _or_full(weight, 1, x), _or_full(bias, 0, x), float(eps),
                *_column_memory(x), y.reshape(-1), mean, rstd,
            )  # fmt: skip
            return y, mean, rstd
        threads.parallel_for(
            kernels.load("batch_norm").batch_norm, *_work(x), x.reshape(-1), *_sizes(x),
            _or_full(weight, 1, x), _or_full(bias, 0, x), float(eps), y.reshape(-1), mean, rstd,
        )  # fmt: skip
        return y, mean, rstd

    def batch_norm_grad(
        self,
        g: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        mean: np.ndarray,
        rstd: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        g, x = workspace.in_rows(g), workspace.in_rows(x)
        if not kernels.supports(x, g, weight, mean, rstd):
            return super().batch_norm_grad(g, x, weight, mean, rstd)
        gx, (gw, gb) = np.empty(x.shape, x.dtype), np.empty((2, x.shape[1]), x.dtype)
        if _are_columns(x):
            threads.parallel_for(
                kernels.load("batch_norm").column_batch_norm_grad, *_column_work(x),
                contiguous(g).reshape(-1), x.reshape(-1), *x.shape, _or_full(weight, 1, x),
                contiguous(mean), contiguous(rstd), *_column_memory(x), gx.reshape(-1), gw, gb,
            )  # fmt: skip
            return gx, None if weight is None else gw, gb
        threads.parallel_for(
            kernels.load("batch_norm").batch_norm_grad, *_work(x), contiguous(g).reshape(-1),
            x.reshape(-1), *_sizes(x), _or_full(weight, 1, x), contiguous(mean), contiguous(rstd),
            gx.reshape(-1), gw, gb,
        )  # fmt: skip
        return gx, None if weight is None else gw, gb

    def group_norm(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        groups: int,
        eps: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = workspace.in_rows(x)
        if not kernels.supports(x, weight, bias):
            return super().group_norm(x, weight, bias, groups, eps)
        (_, c, size), rows = _sizes(x), x.shape[0] * groups
        y, (mean, rstd) = np.empty(x.shape, x.dtype), np.empty((2, rows), x.dtype)
        threads.parallel_for(
            kernels.load("batch_norm").group_norm, rows, max(1, CHANNELS // (x.size // rows)),
            x.reshape(-1), c, size, _or_full(weight, 1, x), _or_full(bias, 0, x), groups,
            float(eps), y.reshape(-1), mean, rstd,
        )  # fmt: skip
        return y, mean, rstd

    def group_norm_grad(
        self,
        g: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        mean: np.ndarray,
        rstd: np.ndarray,
        groups: int,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        g, x = workspace.in_rows(g), workspace.in_rows(x)
        if not kernels.supports(x, g, weight, mean, rstd):
            return super().group_norm_grad(g, x, weight, mean, rstd, groups)
        (n, c, size), rows = _sizes(x), x.shape[0] * groups
        gx, sums = np.empty(x.shape, x.dtype), np.empty((2, n, c), x.dtype)
        threads.parallel_for(
            kernels.load("batch_norm").group_norm_grad, rows, max(1, CHANNELS // (x.size // rows)),
            contiguous(g).reshape(-1), x.reshape(-1), c, size, _or_full(weight, 1, x), groups,
            contiguous(mean), contiguous(rstd), gx.reshape(-1), sums.reshape(-1),
        )  # fmt: skip
        gw, gb = self.sum(sums, 1)
        return gx, None if weight is None else gw, gb


def _sizes(x: np.ndarray) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _work(x: np.ndarray) -> tuple[int, int]:
    """The number of channels, and how many of them a thread processes at a time."""
    return x.shape[1], max(1, CHANNELS // (x.size // x.shape[1]))


def _are_columns(x: np.ndarray) -> bool:
    """Whether channels have one number a sample: each is then a column of a matrix."""
    return x.ndim == 2


def _column_work(x: np.ndarray) -> tuple[int, int]:
    """As `_work`; threads get whole cache lines."""
    return x.shape[1], max(1, CHANNELS // x.shape[0] // 16) * 16


def _column_memory(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The arrays that kernels of columns work with."""
    return np.empty(3 * x.shape[1], x.dtype), np.empty(2 * x.shape[1], np.float64)


def _or_full(vector: np.ndarray | None, value: int, x: np.ndarray) -> np.ndarray:
    """A weight or bias; if there is none, a neutral one, full of `value`."""
    return np.full(x.shape[1], value, x.dtype) if vector is None else contiguous(vector)
