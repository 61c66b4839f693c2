"""Ctrl-C where the program goes on after it, as between two turns of a chat."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Seconds until a Ctrl-C that met an import is tried again.
AGAIN = 0.02


@contextlib.contextmanager
def whole_imports() -> Iterator[None]:
    """A context in which Ctrl-C waits for the end of imports.

    A module whose import was broken off stays half made, and what needs it fails ever after; and
    much is imported when it is first needed, such as Jinja and the kernels in a chat's first turn.
    In other threads than the main one, which signals do not reach, it does nothing.
    """
    earlier = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(earlier):
        yield
        return
    waiting: list[threading.Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not importing(frame):
            earlier(number, frame)
            return
        # To this thread, which may be waiting for something.
        again = threading.Timer(AGAIN, signal.pthread_kill, (threading.get_ident(), number))
        again.daemon = True
        waiting[:] = [again]
        again.start()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
        for timer in waiting:
            timer.cancel()


def importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported in this frame, or in one that called it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
