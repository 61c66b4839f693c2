"""Locks that a forked child finds free.

A child process has the thread that forked and no other. A lock that another thread held at that
moment would stay locked in it for ever. So the package's locks are made here, and renewed in every
child; what they guard is made so that a change cut off in the middle does no harm.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def new_lock() -> threading.Lock:
    """A lock, renewed in children for as long as somebody keeps it."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def new_rlock() -> Any:
    """One that the thread which holds it may take again."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _reinit_after_fork() -> None:
    for lock in _locks:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_reinit_after_fork)
