"""Compile in a thread that Ctrl-C does not reach.

Python delivers signals to the main thread, between any two bytecodes. Inside numba or LLVM a
KeyboardInterrupt may be lost (in a callback, in a `__del__`), or leave a lock held for ever. So a
separate thread imports numba, compiles kernels and loads compiled ones, and the main thread waits
for it. Ctrl-C ends the wait at once, but the work continues: the next call finds it done or waits
for the rest. If the process ends, the work is abandoned.
"""

from __future__ import annotations

import atexit
import contextlib
import logging  # noqa: F401 (see below: its hooks of os.fork come before ours)
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from traceback import walk_stack
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gradient.backends.numpy import claims, memory
from gradient.garbage import no_collections
from gradient.locks import new_lock, new_rlock

if TYPE_CHECKING:
    from concurrent.futures import Future

Result = TypeVar("Result")

PROGRESS_AFTER = 1.0
"""Seconds of compiling from which it is said what takes so long."""
EXIT_TIMEOUT = 3.0
"""Seconds that the end of the process waits for LLVM. A call takes a second at most."""

work_lock = new_lock()
"""Held while a piece of work is done: there is one at a time."""
llvm_lock = new_rlock()
"""Held while LLVM works (`kernels.compilation` sees to it)."""


def run(work: Callable[..., Result], *arguments: Any) -> Result:
    """Return work(*arguments), run in a thread that no signal reaches."""
    if threading.current_thread() is not threading.main_thread():
        return _run_locked(work, arguments)
    from concurrent.futures import Future, wait

    outcome: Future[Result] = Future()
    # A daemon, as the process may end before it.
    threading.Thread(
        target=_run_into, args=(outcome, work, arguments), name="gradient-compiler", daemon=True
    ).start()
    try:
        while wait([outcome], timeout=PROGRESS_AFTER).not_done:
            progress.show()
    finally:
        progress.hide()
    return outcome.result()


def _run_locked(work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    # numba makes objects by the million, most of which live until their kernel is compiled: to look
    # at them again and again took a tenth of the time.
    with work_lock, no_collections():
        try:
            return work(*arguments)
        finally:
            claims.release()
            progress.end()
            memory.trim_if_exact()


def _run_into(outcome: Future[Any], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = _run_locked(work, arguments)
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


class Progress:
    """Shows on standard error what is being compiled: on a terminal a line that is erased
    afterwards, in a log a single line in total. Nothing is shown before `PROGRESS_AFTER` seconds,
    for loading, or within `quiet`."""

    def __init__(self) -> None:
        self.count = 0
        self._writers = 0
        self._lock = new_lock()
        self._name = ""
        self._began = 0.0
        self._earlier = 0.0  # seconds for the kernels before this one
        self._kept = True
        self._said = self._shown = False

    def begin(self, name: str, kept: bool = True) -> None:
        """Compilation of a kernel begins, as no compiled one was found. kept: it will be stored for
        later processes."""
        self._name, self._began = name, time.monotonic()
        self._kept = kept
        self.count += 1

    def end(self) -> None:
        """The compilation, if any, has ended."""
        if self._name:
            self._earlier += time.monotonic() - self._began
            self._name = ""

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Context without messages, which would interrupt the program's text."""
        with self._lock:
            self._writers += 1
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1

    def show(self) -> None:
        if not self._name or self._writers or sys.stderr is None:
            return
        seconds = self._earlier + time.monotonic() - self._began
        if seconds < PROGRESS_AFTER:
            return
        with contextlib.suppress(OSError, ValueError):  # closed, or a broken pipe
            if sys.stderr.isatty():
                line = f"compiling kernels: {self.count}, {self._name} ({seconds:.0f} s)"
                sys.stderr.write(f"\r\x1b[K{line}")
                self._shown = True
            elif not self._said:
                later = "cached for later runs" if self._kept else "again in each run"
                sys.stderr.write(f"compiling kernels, {later}\n")
            self._said = True
            sys.stderr.flush()

    def hide(self) -> None:
        if self._shown:
            self._shown = False
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()


progress = Progress()


# Forks and exits ----------------------------------------------------------------------------------


_held_for_fork = _interrupted_fork = False


def _lock_before_fork() -> None:
    """Wait for the compiling thread: otherwise numba in the child would stay half imported, or in
    the middle of a kernel, for ever."""
    global _held_for_fork, _interrupted_fork
    _held_for_fork = _interrupted_fork = False
    try:
        _held_for_fork = work_lock.acquire()
    except KeyboardInterrupt:  # os.fork would only print it
        _interrupted_fork = True


def _unlock_after_fork() -> None:
    if _held_for_fork:
        work_lock.release()
    _interrupt_after_fork()


def _interrupt_after_fork() -> None:
    """If Ctrl-C ended the wait, raise it just after the fork, in parent and child."""
    if _interrupted_fork:
        threading.Thread(target=_interrupt_main, name="gradient-interrupt", daemon=True).start()


def _interrupt_main() -> None:
    """Interrupt the main thread like Ctrl-C, after it has left the hooks of os.fork."""
    main = cast(int, threading.main_thread().ident)
    called = {_unlock_after_fork.__code__, _interrupt_after_fork.__code__}
    while any(frame.f_code in called for frame, _ in walk_stack(sys._current_frames().get(main))):
        time.sleep(0.001)
    signal.pthread_kill(main, signal.SIGINT)  # it also interrupts system calls


# The last hook registered runs first before a fork. `logging`, which numba imports, registers one
# that takes its lock: if it came before this wait for numba, numba would wait for that lock.
if hasattr(os, "register_at_fork"):  # `gradient.locks` renews the child's lock
    os.register_at_fork(
        before=_lock_before_fork,
        after_in_parent=_unlock_after_fork,
        after_in_child=_interrupt_after_fork,
    )


@atexit.register
def _wait_for_llvm() -> None:
    """Let the process end only between two calls of LLVM, which is destroyed at exit. Remaining
    work stops at its next call of LLVM."""
    if work_lock.locked():
        with contextlib.suppress(KeyboardInterrupt):
            llvm_lock.acquire(timeout=EXIT_TIMEOUT)
