"""Ctrl-C in long work: the first asks for an orderly stop, the second is a KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class StopRequest:
    """A context in which SIGINT and SIGTERM set `requested` instead of breaking off the work.

    After the first signal the earlier handlers are back, so a second one ends the program as
    usual. Signals reach the main thread only; in any other thread the context does nothing.

    Args:
        on_request: called in the signal handler, to tell the user what happens next.
    """

    def __init__(self, on_request: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._on_request = on_request
        self._earlier: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()
        if self._on_request is not None:
            self._on_request()

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._earlier.clear()
