"""Rotary positions by a kernel."""

from __future__ import annotations

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.kernels import contiguous
from gradient.dtypes import HALF_PRECISION

FLOAT32 = np.dtype(np.float32)


class RopeKernels(AttentionDefaults[np.ndarray]):
    """The override of `rope`."""

    def rope(
        self, x: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool = False
    ) -> np.ndarray:
        if not _supported(x, cos, sin):
            return super().rope(x, cos, sin, interleaved)
        family, stored = kernels.load("rope"), kernels.load("half_precision").stored
        y = np.empty(x.shape, x.dtype)
        if cos.ndim < 4:
            cos, sin = (a.reshape((1,) * (4 - a.ndim) + a.shape) for a in (cos, sin))
        b, h, t, d = x.shape
        arguments = stored(x), stored(contiguous(cos)), stored(contiguous(sin))
        threads.parallel_for(
            family.rope, b * h * t, max(1, family.CHUNK // d),
            *arguments, bool(interleaved), stored(y),
        )  # fmt: skip
        return y


def _supported(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> bool:
    """Whether x is (B, H, T, D) with contiguous rows, and the angles have matching axes."""
    return (
        type(x) is np.ndarray
        and x.ndim == 4
        and (x.size >= kernels.MIN_ROW or (x.size > 0 and small_calls.are_repeated()))
        and x.strides[3] == x.itemsize
        and x.flags.behaved
        and 1 <= cos.ndim <= 4
        and 0 < 2 * cos.shape[-1] <= x.shape[3]
        and _serves(cos.shape[:-1], x.shape[:3])
        and cos.shape == sin.shape
        and cos.dtype == sin.dtype
        and (cos.dtype == x.dtype or (cos.dtype == FLOAT32 and x.dtype in HALF_PRECISION))
        and kernels.computes(x.dtype)
    )


def _serves(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to the target."""
    near = target[len(target) - len(shape) :]
    return shape == near or all(n in (1, of) for n, of in zip(shape, near, strict=True))
