"""`linear` with a weight in 16 bits, by a kernel that reads the weight once, as it is stored.

NumPy would widen all of it to float32 first, which for a single row takes far longer than the
product. The kernel's outputs do not depend on how many rows of x, up to MANY_ROWS, are computed
together.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.packed import PackedArray
from gradient.dtypes import HALF_PRECISION, float16

CHUNK = 1 << 19
"""Weights, in whole rows, that a thread takes at a time: one MiB of 16 bits each."""

MANY_ROWS = 512
"""Rows of x beyond which widening the weight first, for BLAS, is quicker: those of training steps,
not of a prompt's chunk."""

PADDING = 16
"""Numbers after each row of x: rows a power of two apart would compete for the same few lines of
the cache."""


class LinearKernels(AttentionDefaults[np.ndarray]):
    """Overrides of the products with a weight (N, K)."""

    def linear(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray | None = None
    ) -> np.ndarray:
        if not _supported(weight, x, bias):
            return super().linear(x, weight, bias)
        return product(x, weight.dtype.name, weight.view(np.uint8), bias)


def product(
    x: np.ndarray, form: str, weight: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """x (..., K) @ W (N, K).T (+ bias), in x's dtype, for the bytes (N, ...) of a W in 16 bits."""
    family, forms = kernels.load("linear"), kernels.load("formats").FORMATS
    n, k = len(weight), x.shape[-1]
    rows = padded_rows(x)
    out = np.empty((len(rows), n), np.float32)
    added = np.empty(0, np.float32) if bias is None else bias.astype(np.float32)
    arguments = (
        *(rows.reshape(-1), k + PADDING, len(rows)),
        *(weight.reshape(-1), forms[form], k, added, out.reshape(-1)),
    )
    threads.parallel_for(family.linear, n, max(1, CHUNK // k), *arguments)
    return out.astype(x.dtype).reshape(*x.shape[:-1], n)


def padded_rows(x: np.ndarray) -> np.ndarray:
    """The rows of x (..., K) as float32 (M, K + PADDING)."""
    k = x.shape[-1]
    rows = np.zeros((x.size // k, k + PADDING), np.float32)
    rows[:, :k] = x.reshape(-1, k)
    return rows


def _supported(
    weight: np.ndarray | PackedArray, x: np.ndarray, bias: np.ndarray | None
) -> TypeGuard[np.ndarray]:
    """Whether the kernel takes a product."""
    return (
        type(weight) is np.ndarray
        and weight.dtype in HALF_PRECISION
        and weight.size >= kernels.MIN_SIZE
        and weight.ndim == 2
        and weight.shape[1] >= 16
        and weight.flags.c_contiguous
        and type(x) is np.ndarray
        and x.dtype == weight.dtype
        and 0 < x.size <= MANY_ROWS * weight.shape[1]
        and x.shape[-1:] == weight.shape[1:]
        and (bias is None or bias.shape == weight.shape[:1])
        and kernels.available()
        and (weight.dtype != float16.numpy or kernels.load("linear").converts_float16())
    )
