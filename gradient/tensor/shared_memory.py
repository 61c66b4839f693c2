"""Arrays in memory that is shared with forked or spawned child processes."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.backends.packed import memory_of

if TYPE_CHECKING:
    from collections.abc import Callable


class SharedMemory(mmap.mmap):
    """A mapped file without a name. A forked process inherits the mapping; a spawned process gets
    the file's descriptor."""

    descriptor: int


def is_shared(array: Any) -> bool:
    """Whether an array is in SharedMemory."""
    return isinstance(memory_of(array), SharedMemory)


def shared_copy(array: np.ndarray) -> np.ndarray:
    """Copy an array to new SharedMemory."""
    size = max(array.nbytes, 1)
    descriptor = _nameless_file()
    os.truncate(descriptor, size)
    copy = np.frombuffer(_mapped(descriptor, size), array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return copy


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gradient")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _mapped(descriptor: int, size: int) -> SharedMemory:
    memory = SharedMemory(descriptor, size)
    memory.descriptor = descriptor
    weakref.finalize(memory, os.close, descriptor)
    return memory


class Handed:
    """Pickles an array in SharedMemory for a process that is being spawned; it is unpickled as an
    array on the same memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Callable[..., np.ndarray], tuple[object, ...]]:
        from multiprocessing.reduction import DupFd

        memory, array = memory_of(self.array), self.array
        start = np.frombuffer(memory, np.uint8).ctypes.data
        place = (array.shape, array.dtype, array.ctypes.data - start, array.strides)
        return _taken, (DupFd(memory.descriptor), len(memory), *place)


def _taken(handle: Any, size: int, *place: Any) -> np.ndarray:
    shape, dtype, offset, strides = place
    return np.ndarray(shape, dtype, _mapped(handle.detach(), size), offset, strides)


def is_spawning() -> bool:
    """Whether this thread is pickling objects for a new process."""
    from multiprocessing.context import get_spawning_popen

    return get_spawning_popen() is not None
