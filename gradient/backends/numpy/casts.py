"""Casts of large arrays between float32 and 16-bit floats, on all threads."""

from __future__ import annotations

import functools

import numpy as np

from gradient.backends.base import LARGE, Backend
from gradient.backends.numpy import filling, fused, kernels, threads
from gradient.backends.numpy.turned_arrays import in_memory_order
from gradient.dtypes import HALF_PRECISION, float32

FLOATS = (*kernels.FLOATS, *HALF_PRECISION)


class CastKernels(Backend[np.ndarray]):
    """Overrides `astype`."""

    def astype(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        if x.size < LARGE:
            return super().astype(x, dtype)
        if x.dtype != dtype and dtype in FLOATS and x.dtype in FLOATS and filling.repeats_one(x):
            out = np.empty(x.shape, dtype)
            filling.fill(out, super().astype(x[(0,) * x.ndim], dtype))
            return out
        if not _takes(x, dtype):
            return super().astype(x, dtype)
        return in_memory_order(functools.partial(self._cast, dtype), x)

    def _cast(self, dtype: np.dtype, x: np.ndarray) -> np.ndarray:
        family, kinds = kernels.load("casts"), kernels.load("stored").KINDS
        out, given = np.empty(x.shape, dtype), kernels.contiguous(x).reshape(-1)
        if dtype == float32.numpy:
            launch = family.widen, given.view(np.uint8), kinds[x.dtype.name], out.reshape(-1)
        else:
            launch = family.narrow, given, kinds[dtype.name], out.reshape(-1).view(np.uint8)
        threads.parallel_for(launch[0], x.size, fused.CHUNK, *launch[1:])
        return out


def _takes(x: np.ndarray, dtype: np.dtype) -> bool:
    """Whether the kernel casts x to this dtype."""
    if x.dtype == float32.numpy:
        half = dtype
    elif dtype == float32.numpy:
        half = x.dtype
    else:
        return False
    return half in HALF_PRECISION and type(x) is np.ndarray and kernels.computes(half)
