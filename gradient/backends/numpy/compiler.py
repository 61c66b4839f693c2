"""Compiling where Ctrl-C does not reach.

Python gives signals to the main thread, between any two of its steps. Inside numba or LLVM the
KeyboardInterrupt may be lost (in a callback, in a `__del__`), or leave a lock held for ever. So
what imports numba, compiles a kernel or loads a compiled one has a thread of its own, and the main
thread waits for it. Ctrl-C ends the wait at once. The work goes on meanwhile: the next call finds
it done, or waits for the rest of it, and a process that ends leaves it where it is.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from traceback import walk_stack
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gradient.backends.numpy import memory
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
    """The result of work(*arguments), from a thread that no signal reaches."""
    if threading.current_thread() is not threading.main_thread():
        return _run_locked(work, arguments)
    from concurrent.futures import Future, wait

    outcome: Future[Result] = Future()
    # A daemon, for the process may end before it.
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
    with work_lock:
        try:
            return work(*arguments)
        finally:
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
    """What is being compiled, on standard error: a line that goes again on a terminal, one line in
    all in a log. Nothing is said of what takes less than `PROGRESS_AFTER`, nor of loading; nor amid
    a text (`quiet`)."""

    def __init__(self) -> None:
        self.count = 0
        self._writers = 0
        self._lock = new_lock()
        self._name = ""
        self._began = 0.0
        self._earlier = 0.0  # seconds, of the kernels before this one
        self._kept = True
        self._said = self._shown = False

    def begin(self, name: str, kept: bool = True) -> None:
        """A kernel is compiled, as no compiled one was found; kept: for later processes, too."""
        self._name, self._began = name, time.monotonic()
        self._kept = kept
        self.count += 1

    def end(self) -> None:
        """It is compiled, if one was."""
        if self._name:
            self._earlier += time.monotonic() - self._began
            self._name = ""

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Say nothing inside: it would land in the middle of what was written before."""
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
        what = "compiling kernels once" if self._kept else "compiling kernels"
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
            if sys.stderr.isatty():
                line = f"{what}: {self.count}, {self._name} ({seconds:.0f} s)"
                sys.stderr.write(f"\r\x1b[K{line}")
                self._shown = True
            elif not self._said:
                later = "find them compiled" if self._kept else "compile them again"
                sys.stderr.write(f"{what}: later runs {later}\n")
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
    """A child would find numba half imported or half-way through a kernel, for ever."""
    global _held_for_fork, _interrupted_fork
    _held_for_fork = _interrupted_fork = False
    try:
        _held_for_fork = work_lock.acquire()
    except KeyboardInterrupt:  # os.fork would print it, and go on
        _interrupted_fork = True


def _unlock_after_fork() -> None:
    if _held_for_fork:
        work_lock.release()
    _interrupt_after_fork()


def _interrupt_after_fork() -> None:
    """Have the Ctrl-C that ended the wait come as if just after the fork, to parent and child."""
    if _interrupted_fork:
        threading.Thread(target=_interrupt_main, name="gradient-interrupt", daemon=True).start()


def _interrupt_main() -> None:
    """As Ctrl-C does, when the main thread has left what os.fork calls."""
    main = cast(int, threading.main_thread().ident)
    called = {_unlock_after_fork.__code__, _interrupt_after_fork.__code__}
    while any(frame.f_code in called for frame, _ in walk_stack(sys._current_frames().get(main))):
        time.sleep(0.001)
    signal.pthread_kill(main, signal.SIGINT)  # which ends a system call, too


if hasattr(os, "register_at_fork"):  # the child's lock is renewed by `gradient.locks`
    os.register_at_fork(
        before=_lock_before_fork,
        after_in_parent=_unlock_after_fork,
        after_in_child=_interrupt_after_fork,
    )


@atexit.register
def _wait_for_llvm() -> None:
    """A process must not end inside LLVM, which is taken down with it. So it ends between two calls
    of it, and the work, if there still is any, gets no further than the next call."""
    if work_lock.locked():
        with contextlib.suppress(KeyboardInterrupt):
            llvm_lock.acquire(timeout=EXIT_TIMEOUT)
