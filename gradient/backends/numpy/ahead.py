"""Compile kernels in other processes, ahead of their first use.

A process compiles one kernel at a time. The first text of a new installation takes some forty, and
two of them half of the time. So a command that knows what it will need says so (`expect`). When
it needs a kernel that is not in the cache, helpers start. They compile what is listed in
`expected_kernels`, what takes longest first, while the command compiles what it needs now. A kernel
that one process compiles is not compiled by another: a helper leaves it out, and a command waits
for it (`claims`).
"""

from __future__ import annotations

import atexit
import contextlib
import select
import signal
import subprocess
import sys

from gradient.backends.numpy import expected_kernels
from gradient.backends.numpy.cpu_count import usable_cpus

MAX_HELPERS = 3
"""Each takes up to 350 MB; after the first kernels there is too little left for more."""

_expected: str | None = None
_helpers: list[subprocess.Popen[bytes]] = []


def expect(work: str) -> None:
    """This process will need the kernels of `work`: one of `expected_kernels.LISTS`, or a name for
    which there is none."""
    global _expected
    _expected = work


def begin() -> None:
    """Start the helpers, as a kernel is not in the cache; once in a process."""
    global _expected
    work, _expected = _expected, None
    if work not in expected_kernels.LISTS or not hasattr(select, "poll"):  # as on Windows
        return
    if not sys.executable or getattr(sys, "frozen", False):  # embedded, or the program itself
        return
    # The same modules as here, whatever is in the current folder.
    program = f"import sys; sys.path[:] = {sys.path!r}\n"
    program += f"from gradient.backends.numpy import ahead; ahead.help({work!r})"
    # Ctrl-C in a terminal reaches all processes, and may be meant for a reply alone. A signal that
    # this thread blocks is blocked in the processes that it starts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        for _ in range(min(usable_cpus() - 1, MAX_HELPERS)):
            _start(program)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(program: str) -> None:
    with contextlib.suppress(OSError):  # this process compiles all alone
        _helpers.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )


@atexit.register
def _leave() -> None:
    """Have helpers end after the kernel that they are at. They are not waited for, of which Popen
    would warn."""
    for process in _helpers:
        if process.stdin is not None:
            process.stdin.close()
        process.returncode = 0


def help(work: str) -> None:
    """Compile the kernels of `work`, until the process that asked for it ends."""
    from gradient.backends.numpy import claims, kernels

    compile_for = kernels.load("compilation").compile_for
    asking = select.poll()
    asking.register(sys.stdin, select.POLLHUP)
    for line in expected_kernels.lines(work):
        if asking.poll(0):
            break
        path, _, kinds = line.partition(": ")
        family, _, name = path.partition(".")
        with contextlib.suppress(claims.ClaimedElsewhere), claims.without_waiting():
            compile_for(getattr(kernels.load(family), name), kinds)
