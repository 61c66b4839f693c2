"""`multiprocessing`: Python's own, with tensors that processes share.

A tensor, or a module by `share_memory`, is put in memory that all processes share that are forked
afterwards or spawned with it among their arguments: what one writes in place, the others read. In a
queue or a pipe, and unshared among the arguments of a spawned process, a tensor is copied.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import *  # noqa: F403
from multiprocessing.process import BaseProcess
from typing import Any

from gradient.errors import ArgumentError, sentence

__all__ = [
    *multiprocessing.__all__,
    "ProcessContext",
    "ProcessExitedException",
    "ProcessRaisedException",
    "get_all_sharing_strategies",
    "get_sharing_strategy",
    "set_sharing_strategy",
    "spawn",
    "start_processes",
]

STRATEGY = "file_descriptor"


def get_all_sharing_strategies() -> set[str]:
    """How tensors can be shared: in files without a name, and in no other way."""
    return {STRATEGY}


def get_sharing_strategy() -> str:
    return STRATEGY


def set_sharing_strategy(new_strategy: str) -> None:
    """There is one strategy, and PyTorch's other is taken for it."""
    if new_strategy not in (STRATEGY, "file_system"):
        raise ArgumentError(sentence("set_sharing_strategy", repr(STRATEGY), repr(new_strategy)))


class ProcessRaisedException(Exception):
    """A process of `spawn` raised an exception: the message holds its traceback."""


class ProcessExitedException(Exception):
    """A process of `spawn` ended with an exit code other than 0."""


def _run(function: Callable[..., Any], index: int, args: Sequence[Any], errors: Any) -> None:
    try:
        function(index, *args)
    except KeyboardInterrupt:
        pass  # the parent is told, too
    except Exception:
        errors.send(traceback.format_exc())
        raise SystemExit(1) from None


class ProcessContext:
    """Processes that run together, as `spawn(join=False)` returns them."""

    def __init__(self, processes: list[BaseProcess], errors: list[Any]) -> None:
        self.processes, self.errors = processes, errors

    def pids(self) -> list[int | None]:
        return [process.pid for process in self.processes]

    def join(self, timeout: float | None = None) -> bool:
        """Wait until a process fails or all end: True if all have ended well.

        Raises ProcessRaisedException or ProcessExitedException, once the others are stopped.
        """
        running: dict[Any, int] = {
            process.sentinel: place for place, process in enumerate(self.processes)
        }
        while running:
            ready = multiprocessing.connection.wait(list(running), timeout)
            if not ready:
                return False
            for sentinel in ready:
                place = running.pop(sentinel)
                self.processes[place].join()
                if self.processes[place].exitcode != 0:
                    self._fail(place)
        return True

    def _fail(self, place: int) -> None:
        for process in self.processes:
            if process.is_alive():
                process.terminate()
            process.join()
        with contextlib.suppress(EOFError):  # it said nothing
            trace = self.errors[place].recv()
            raise ProcessRaisedException(f"process {place} raised:\n\n{trace}")
        code = self.processes[place].exitcode
        raise ProcessExitedException(f"process {place} ended with exit code {code}")


def start_processes(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Run `fn(index, *args)` in `nprocs` processes, and wait for them if `join`."""
    context: Any = multiprocessing.get_context(start_method)
    processes, errors = [], []
    for index in range(nprocs):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(fn, index, tuple(args), sender), daemon=daemon)
        process.start()
        sender.close()
        processes.append(process)
        errors.append(receiver)
    started = ProcessContext(processes, errors)
    if not join:
        return started
    while not started.join():
        pass
    return None


def spawn(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """`start_processes`, by default in new interpreters."""
    return start_processes(fn, args, nprocs, join, daemon, start_method)
