"""Ctrl-C in long work: the first asks for an orderly stop, the second raises KeyboardInterrupt."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopRequest:
    """A context in which SIGINT and SIGTERM set `requested` instead of interrupting.

    The next signal breaks it off, also in a process that was started with SIGINT ignored (by nohup,
    or in the background of a shell script). Signals reach the main thread only; in any other thread
    the context does nothing.

    Args:
        on_request: called in the signal handler, to tell the user what happens next.
        at_once: the first signal interrupts too, as there is nothing to save yet.
    """

    def __init__(
        self,
        on_request: Callable[[], None] | None = None,
        at_once: Callable[[], bool] = lambda: False,
    ) -> None:
        self.requested = False
        self._on_request = on_request
        self._at_once = at_once
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            # All of them before the first is replaced: from then on a signal may come.
            self._earlier = {number: signal.getsignal(number) for number in _BREAKING_OFF}
            try:
                for number in self._earlier:
                    signal.signal(number, self._handle)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._earlier.items():
            if handler is not None:  # one that was not installed from Python cannot be put back
                signal.signal(number, handler)
        self._earlier.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        for each, handler in self._earlier.items():
            ends = handler not in (signal.SIG_IGN, None)
            signal.signal(each, handler if ends else _BREAKING_OFF[each])
        if self._at_once():
            signal.raise_signal(number)
            return
        self.requested = True
        if self._on_request is None:
            return
        try:
            self._on_request()
        except RuntimeError:
            # The signal came while the main thread was writing to the very stream, which may not be
            # entered twice; another thread waits for its turn.
            _thread.start_new_thread(self._on_request, ())


_BREAKING_OFF: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
