"""Python's garbage collector, which is paused while some work is done."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

from gradient.locks import new_lock

_lock = new_lock()
_pauses: dict[object, int] = {}
"""{a pause that has not ended: its thread}."""
_paused_here = False
"""Whether the collector was on before these pauses, so that it is turned on after the last."""


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Context in which no thread collects reference cycles, until all such contexts have ended."""
    global _paused_here
    pause = object()
    with _lock:
        if not _pauses:
            _paused_here = gc.isenabled()
            gc.disable()
        _pauses[pause] = threading.get_ident()
    try:
        yield
    finally:
        with _lock:
            del _pauses[pause]
            _turn_on_after_last()


def _turn_on_after_last() -> None:
    if not _pauses and _paused_here:
        gc.enable()


def _forget_other_threads() -> None:
    """In a forked child, end the pauses of threads that it does not have."""
    here = threading.get_ident()
    for pause in [pause for pause, thread in _pauses.items() if thread != here]:
        del _pauses[pause]
    _turn_on_after_last()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget_other_threads)
