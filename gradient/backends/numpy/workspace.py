"""The memory of a method's result, and of its temporaries.

In eager mode, NumPy allocates it. A plan has a place for the result, and free parts of its arena
for temporaries: within a `Workspace` of these, a method allocates nothing else. Of the arrays made
here, only the result outlives the method.

Temporaries start at a cache line. NumPy's arrays may start within one; then each load of a whole
vector in a kernel reads two lines.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradient.backends.numpy import filling, kernels, memory, strided_copies, transposes
from gradient.backends.required import Shape

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""

MANY_BYTES = 1 << 12
"""Of an array, from which it begins at a line of the cache."""


class Workspace:
    """The place of a result, and a block of bytes for temporaries; without a block, `used` counts
    the bytes needed."""

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
    """Context in which methods called by this thread take their memory from a workspace."""
    _here.workspace = workspace
    try:
        yield
    finally:
        _here.workspace = None


def empty(shape: Shape, dtype: Any) -> np.ndarray:
    """An array for temporaries, which must not outlive the method."""
    workspace = _here.workspace
    if workspace is not None:
        return workspace.empty(shape, dtype)
    size, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    if size * itemsize < MANY_BYTES:
        return np.empty(shape, dtype)
    # In this dtype, by which a plan recognises scratch memory.
    block = np.empty(size + ALIGNMENT // itemsize, dtype)
    return np.ndarray(shape, dtype, block, -block.ctypes.data % ALIGNMENT)


def result(shape: Shape, dtype: Any, on_lines: bool = False) -> np.ndarray:
    """An array for the method's result; on_lines: start at a cache line, if it is large, for a
    kernel that writes vectors far apart."""
    workspace = _here.workspace
    if workspace is not None:
        return workspace.result(shape, dtype)
    return memory.lines(shape, np.dtype(dtype)) if on_lines else np.empty(shape, dtype)


def zeros(shape: Shape, dtype: Any) -> np.ndarray:
    """`empty`, filled with zeros."""
    made = empty(shape, dtype)
    made.fill(0)
    return made


def contiguous(x: np.ndarray) -> np.ndarray:
    """`kernels.contiguous`, with a copy in the memory of `empty`."""
    if type(x) is np.ndarray and x.flags.carray:
        return x
    made = empty(x.shape, x.dtype)
    if filling.repeats_one(x):
        filling.fill(made, x[(0,) * x.ndim])
    elif type(x) is not np.ndarray:
        np.copyto(made, x)
    elif not (transposes.copied(x, made) or strided_copies.copied(x, made)):
        np.copyto(transposes.bits(made), transposes.bits(x))
    return made


def in_rows(x: np.ndarray) -> np.ndarray:
    """`contiguous`, of an array that is large enough for kernels, many of which take no other."""
    return contiguous(x) if x.size >= kernels.MIN_SIZE else x
