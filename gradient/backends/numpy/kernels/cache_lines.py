"""Memory that a kernel holds, from a line of the cache on.

A vector of 64 bytes that begins amid a line lies in two, and a load of it is two. What NumPy and
numba allocate begins at 16 or 32 bytes.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_subroutine


@ordered_subroutine
def cache_lines(like, size):
    """A flat array as `like`, not yet written, at the beginning of a cache line."""
    item = like.itemsize
    numbers = np.empty(size + 64 // item, like.dtype)
    start = -numbers.ctypes.data % 64 // item
    return numbers[start : start + size]


@ordered_subroutine
def lines_of_zeros(like, size):
    """As `cache_lines`, of zeros."""
    numbers = cache_lines(like, size)
    numbers[:] = 0
    return numbers
