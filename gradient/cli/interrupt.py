"""Ctrl-C in programs that continue after it, such as between two turns of a chat."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Seconds until a Ctrl-C during an import is tried again.
AGAIN = 0.02


@contextlib.contextmanager
def whole_imports() -> Iterator[None]:
    """A context in which Ctrl-C waits for the end of imports.

    A module with an interrupted import stays incomplete, and all that need it fail afterwards. Much
    is imported at first use, such as Jinja and the kernels in a chat's first turn.
    In threads other than the main one, which signals do not reach, it does nothing.
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
        # To this thread, which may be waiting.
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
