"""Where a method takes the memory of its result, and of what it holds until it is done.

Eagerly that is NumPy's. A plan has a place for the result, and parts of its arena that are free
while the method runs: in a `Workspace` of these it takes nothing beside them. What is asked for
here outlives the method only as its result.

What the method holds begins at a line of the cache. NumPy's own arrays begin amid one, so that a
kernel's every load of a whole vector reads two.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradient.backends.numpy import memory
from gradient.backends.required import Shape

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""

MANY_BYTES = 1 << 12
"""Of an array, from which it begins at a line of the cache."""


class Workspace:
    """The place of a result, and a block of bytes; without the block, `used` counts what is needed
    beside the place."""

    def __init__(self, place: np.ndarray | None, block: np.ndarray | None = None):
        self.used = 0
        self._place, self._block = place, block

    def empty(self, shape: Shape, dtype: Any) -> np.ndarray:
        dtype, begin = np.dtype(dtype), self.used
        self.used += -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        if self._block is None or self.used > self._block.size:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, self._block, begin)

    def result(self, shape: Shape, dtype: Any) -> np.ndarray:
        place, self._place = self._place, None
        size = math.prod(shape)
        if place is None or not place.flags.carray or (place.size, place.dtype) != (size, dtype):
            self._place = place
            return self.empty(shape, dtype)
        return place.reshape(shape)


class _Here(threading.local):
    workspace: Workspace | None = None


_here = _Here()


@contextmanager
def working_in(workspace: Workspace) -> Iterator[None]:
    """Have the methods that this thread calls take their memory from a workspace."""
    _here.workspace = workspace
    try:
        yield
    finally:
        _here.workspace = None


def empty(shape: Shape, dtype: Any) -> np.ndarray:
    """An array that its maker needs no longer than the method runs."""
    workspace = _here.workspace
    if workspace is not None:
        return workspace.empty(shape, dtype)
    size, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    if size * itemsize < MANY_BYTES:
        return np.empty(shape, dtype)
    # Of this type: that says what the memory holds to who looks for scratch memory (`plan`).
    block = np.empty(size + ALIGNMENT // itemsize, dtype)
    return np.ndarray(shape, dtype, block, -block.ctypes.data % ALIGNMENT)


def result(shape: Shape, dtype: Any, on_lines: bool = False) -> np.ndarray:
    """An array that the method gives; on_lines: from a line of the cache on, if it is large, for a
    kernel that writes vectors far apart."""
    workspace = _here.workspace
    if workspace is not None:
        return workspace.result(shape, dtype)
    return memory.lines(shape, np.dtype(dtype)) if on_lines else np.empty(shape, dtype)


def zeros(shape: Shape, dtype: Any) -> np.ndarray:
    """`empty`, of zeros."""
    made = empty(shape, dtype)
    made.fill(0)
    return made


def contiguous(x: np.ndarray) -> np.ndarray:
    """`kernels.contiguous`, with the copy in memory of `empty`."""
    if type(x) is np.ndarray and x.flags.carray:
        return x
    made = empty(x.shape, x.dtype)
    np.copyto(made, x)
    return made
