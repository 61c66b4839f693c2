"""Arrays of one number, written by all threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.numpy import kernels, threads

MANY_BYTES = 1 << 19
"""Bytes from which two threads fill quicker than one; they take a quarter of them at a time."""


def fill(out: np.ndarray, value: Any) -> None:
    """Set every element of an array in row-major order to a number of its dtype."""
    if out.nbytes < MANY_BYTES or out.dtype not in kernels.FLOATS or not kernels.available():
        if out.itemsize == 2:  # of which NumPy writes integers faster than floats
            out, value = out.view(np.uint16), np.asarray(value, out.dtype).view(np.uint16)
        out.fill(value)
        return
    chunk = MANY_BYTES // 4 // out.itemsize
    threads.parallel_for(
        kernels.load("copies").fill_all, out.size, chunk, out.reshape(-1), float(value)
    )


def repeats_one(x: np.ndarray) -> bool:
    """Whether a large array shows one number again and again, as the gradient of a sum does."""
    return type(x) is np.ndarray and not any(x.strides) and x.nbytes >= MANY_BYTES
