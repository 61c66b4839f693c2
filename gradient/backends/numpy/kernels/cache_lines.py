"""Memory of kernels aligned to cache lines.

A vector of 64 bytes that starts within a line covers two lines, so its load costs two. NumPy and
numba align memory only to 16 or 32 bytes.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_subroutine


@ordered_subroutine
def cache_lines(like, size):
    """An uninitialised flat array of the dtype of `like`, at the start of a cache line."""
    item = like.itemsize
    numbers = np.empty(size + 64 // item, like.dtype)
    start = -numbers.ctypes.data % 64 // item
    return numbers[start : start + size]


@ordered_subroutine
def lines_of_zeros(like, size):
    """As `cache_lines`, filled with zeros."""
    numbers = cache_lines(like, size)
    numbers[:] = 0
    return numbers
