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

LONGEST = 60.0
"""Seconds that a process waits for others that compile a kernel. One of them may be stopped: if it
was waited for in vain, nobody is waited for any more."""
LONGEST_WRITE = 10.0
"""Seconds that a process waits for others that write to an index, which takes milliseconds."""
BETWEEN_TRIES = 0.02


class ClaimedElsewhere(Exception):
    """Another process compiles the kernel."""


class _Lock(NamedTuple):
    file: int
    path: str

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)  # before others may have it, who are to find their own file there
        with contextlib.suppress(OSError):
            fcntl.flock(self.file, fcntl.LOCK_UN)  # a forked process may have the file open, too
        os.close(self.file)


_held: list[_Lock] = []
_longest = LONGEST
_waits = True


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Context in which a claim of what another process compiles raises ClaimedElsewhere."""
    global _waits
    _waits = False
    try:
        yield
    finally:
        _waits = True


def claim(path: str) -> bool:
    """Claim the kernel that will be stored in this file, and hold it until `release`.

    Returns:
        Whether another process had it, which has stored the kernel by now, was ended, or has been
        waited for long enough.
    """
    global _longest
    lock, waited = _locked(path, _longest if _waits else 0.0)
    if lock is not None:
        _held.append(lock)
    elif waited and _waits:
        _longest = 0.0
    elif waited:
        raise ClaimedElsewhere(path)
    return waited


def release() -> None:
    """Give back what this process holds, as it is stored now, or could not be compiled."""
    while _held:
        _held.pop().release()


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Context in which no other process is in such a context with this file."""
    lock, _ = _locked(path, LONGEST_WRITE)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _locked(path: str, longest: float) -> tuple[_Lock | None, bool]:
    """The lock, or None if others hold it for so long, or there are no locks; and whether others
    held it."""
    path = f"{path}.lock"
    waited, begun = False, time.monotonic()
    while fcntl is not None:
        try:
            return _Lock(_opened_and_locked(path), path), waited
        except BlockingIOError:
            waited = True
        except OSError:  # a folder that cannot be written, or a file system without locks
            break
        if time.monotonic() - begun >= longest:
            break
        time.sleep(BETWEEN_TRIES)
    return None, waited


def _opened_and_locked(path: str) -> int:
    """The descriptor of the file at this path, which is made, and locked.

    Raises:
        BlockingIOError: another process has it.
        OSError: it cannot be opened or locked.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(path, file):
            raise BlockingIOError(path)
    except OSError:
        os.close(file)
        raise
    return file


def _is_at(path: str, file: int) -> bool:
    """Whether the path still leads to an open file. It does not if the process that had the lock
    removed the file between our opening it and locking it: others then lock another file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
