"""Arrays in memory that a process shares with those that are forked from it."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from gradient.backends.packed import memory_of
from gradient.errors import BackendError


class SharedMemory(mmap.mmap):
    """Anonymous memory: a fork inherits the mapping, not a copy."""


def is_shared(array: Any) -> bool:
    """Whether an array lies in SharedMemory."""
    return isinstance(memory_of(array), SharedMemory)


def shared_copy(array: np.ndarray) -> np.ndarray:
    """The same elements in SharedMemory."""
    memory = SharedMemory(-1, max(array.nbytes, 1))
    copy = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return copy


def refuse_to_spawn() -> None:
    """Raise if a process is being spawned: it would get a copy of what was meant to be shared."""
    from multiprocessing.context import get_spawning_popen

    if get_spawning_popen() is not None:
        raise BackendError(
            "share_memory_: a spawned process cannot share this tensor; start the process by "
            'multiprocessing.get_context("fork"), or hand it x.clone(), a copy'
        )
