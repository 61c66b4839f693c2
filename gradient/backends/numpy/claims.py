"""Which process compiles a kernel that is not in the cache, and which writes to the cache's index.

Both are locks (flock) on a file beside the cache's own, which the system gives back if the process
ends, by kill -9 too. Where a system or file system has no such locks, processes compile what others
may be compiling.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONGEST = 120.0
"""Seconds after which nobody is waited for any more."""
BETWEEN_TRIES = 0.02


class ClaimedElsewhere(Exception):
    """Another process compiles the kernel."""


class _Lock(NamedTuple):
    file: int
    path: str

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        os.close(self.file)


_held: list[_Lock] = []
_longest = LONGEST


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Context in which a claim of what another process compiles raises ClaimedElsewhere."""
    global _longest
    _longest = 0.0
    try:
        yield
    finally:
        _longest = LONGEST


def claim(path: str) -> bool:
    """Claim the kernel that will be stored in this file, and hold it until `release`.

    Returns:
        Whether another process had it, which has stored the kernel by now, or was ended.
    """
    lock, waited = _locked(path, _longest)
    if lock is not None:
        _held.append(lock)
    elif waited and not _longest:
        raise ClaimedElsewhere(path)
    return waited


def release() -> None:
    """Give back what this process holds, as it is stored now, or could not be compiled."""
    while _held:
        _held.pop().release()


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Context in which no other process is in such a context with this file."""
    lock, _ = _locked(path, LONGEST)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _locked(path: str, longest: float) -> tuple[_Lock | None, bool]:
    """The lock, or None if others hold it for so long, or there are no locks; and whether others
    held it."""
    path = f"{path}.lock"
    if fcntl is None:
        return None, False
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:  # a folder that cannot be written
        return None, False
    waited, begun = False, time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _Lock(file, path), waited
        except BlockingIOError:
            waited = True
        except OSError:  # a file system without locks
            break
        if time.monotonic() - begun >= longest:
            break
        time.sleep(BETWEEN_TRIES)
    os.close(file)
    return None, waited
