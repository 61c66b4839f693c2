"""Blocks of the operands of a kernel whose elements are examined together.

An operand is an array as long as the result, or one number for all elements: an array of size 1.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import inlined

BLOCK = 512
"""The number of elements in a block."""


@inlined
def repeated(x):
    """A block that repeats the first element of x."""
    return np.full(BLOCK, x[0])
