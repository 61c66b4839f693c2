"""Locks that a forked child finds free.

A child process has the thread that forked and no other. A lock that another thread held at that
moment would stay locked in it for ever. So the package's locks are made here, and renewed in every
child; what they guard is made so that a change cut off in the middle does no harm. Of imports that
cannot be said: a fork waits for them (`import_lock`).
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


import_lock = new_rlock()
"""Held by the thread that imports a module of this package because one of its names is asked for.
importlib has a lock for each module, too, which in a child stays locked, the module half run."""
FORK_TIMEOUT = 10.0
"""Seconds that a fork waits for an import. An import takes less, unless it waits for the fork."""
_held_for_fork: set[int] = set()
"""The threads that hold it for a fork of theirs: not those that waited in vain."""


def _lock_before_fork() -> None:
    if import_lock.acquire(timeout=FORK_TIMEOUT):
        _held_for_fork.add(threading.get_ident())


def _unlock_after_fork() -> None:
    thread = threading.get_ident()
    if thread in _held_for_fork:
        _held_for_fork.remove(thread)
        import_lock.release()


def _reinit_after_fork() -> None:
    _held_for_fork.clear()
    for lock in _locks:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_lock_before_fork,
        after_in_parent=_unlock_after_fork,
        after_in_child=_reinit_after_fork,
    )
