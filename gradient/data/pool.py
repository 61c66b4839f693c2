"""A loader's worker processes, as the main process uses them."""

from __future__ import annotations

import ast
import multiprocessing.connection
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradient.data import pipe, worker
from gradient.data.fetch import Recipe
from gradient.errors import ArgumentError, DataLoaderError


class WorkerPool:
    """Workers that serve one loader, epoch after epoch.

    Each has its own pipe and they share no lock, so a worker that is killed does not affect the
    others, and its death is noticed at once. They end with the last reference to the pool.

    Attributes:
        outstanding: for each worker, the number of requests that it has not answered.

    Raises:
        ArgumentError: dataset, collate_fn or worker_init_fn cannot be sent to another process.
    """

    def __init__(
        self,
        context: Any,
        num_workers: int,
        recipe: Recipe,
        worker_init_fn: Callable[[int], None] | None,
    ) -> None:
        self.outstanding = [0] * num_workers
        self._connections: list[Any] = []
        self._processes: list[Any] = []
        payload = (recipe, worker_init_fn)
        # A forked child inherits the objects; others get them through the pipe.
        packed = None
        if context is None:
            context, packed = _chosen_context(payload)
        elif context.get_start_method() != "fork":
            packed = _packed_payload(payload)
        forked = packed is None
        # Before the first starts: if a later one cannot, the others end.
        self._finalizer = weakref.finalize(self, _stop, self._connections, self._processes)
        for number in range(num_workers):
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(
                target=worker.main,
                args=(theirs, number, num_workers, payload if forked else None),
                name=f"gradient-data-{number}",
                daemon=True,
            )
            with warnings.catch_warnings(), theirs:
                # Python 3.12 warns of threads in a process that forks; ours only wait for work.
                warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
                process.start()
            self._processes.append(process)
        if packed is not None:
            # Only now, so that all of them start at the same time.
            for number in range(num_workers):
                self._send(number, packed)

    def __len__(self) -> int:
        return len(self._processes)

    def send(self, number: int, message: tuple[Any, ...]) -> None:
        """Send a request to worker `number`; see `Worker` for the messages."""
        self._send(number, pipe.pack(message))
        self.outstanding[number] += message[0] != "epoch"

    def receive(self, number: int, timeout: float = 0) -> Any:
        """Return the next answer of worker `number`; exceptions in it are raised here.

        Args:
            timeout: seconds to wait; 0: as long as the worker lives.

        Raises:
            DataLoaderError: the worker died, or did not answer in time.
        """
        connection, process = self._connections[number], self._processes[number]
        ready = multiprocessing.connection.wait([connection, process.sentinel], timeout or None)
        if not ready:
            self.close()  # a late answer would be read as another's
            raise DataLoaderError(f"DataLoader: no batch from worker {number} in {timeout} s")
        answer = self._receive(number)
        if isinstance(answer, worker.Failure):
            # No variable for it: it would keep this frame, and so the workers, alive in a cycle.
            raise answer.exception() from None
        return answer

    def drain(self) -> None:
        """Discard the answers of an epoch that was not finished."""
        for number in range(len(self)):
            while self.outstanding[number]:
                self._receive(number)

    @property
    def is_closed(self) -> bool:
        """Whether the workers have ended."""
        return not self._finalizer.alive

    def close(self) -> None:
        """End the workers."""
        self._finalizer()

    def _send(self, number: int, packed: pipe.Packed) -> None:
        try:
            pipe.send(self._connections[number], packed)
        except OSError:
            raise self._died(number) from None

    def _receive(self, number: int) -> Any:
        try:
            # Earlier answers of a worker that died can still be read.
            answer = pipe.receive(self._connections[number])
        except (EOFError, OSError):
            raise self._died(number) from None
        self.outstanding[number] -= 1
        return answer

    def _died(self, number: int) -> DataLoaderError:
        process = self._processes[number]
        process.join(1)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
        hint = ""
        if code == -signal.SIGKILL:
            hint = " (out of memory?)"
        elif code == 1:
            hint = (
                '. A script that starts workers must do so under if __name__ == "__main__":, and a '
                'program from standard input must give multiprocessing_context="fork"'
            )
        self.close()
        return DataLoaderError(f"DataLoader: worker process {process.name} {how}{hint}")


def _chosen_context(payload: Any) -> tuple[Any, pipe.Packed | None]:
    """The default start method of workers, and the message that they get."""
    can_fork = sys.platform == "linux"
    if can_fork and _would_run_again():
        return multiprocessing.get_context("fork"), None
    try:
        return multiprocessing.get_context("spawn"), _packed_payload(payload)
    except ArgumentError:
        if not can_fork:
            raise
        return multiprocessing.get_context("fork"), None


def _would_run_again() -> bool:
    """Whether a spawned worker, which imports the running script, would run its work again, because
    the script does not test `__name__`; or would not find its classes, as in an interactive
    session."""
    script = sys.modules["__main__"]
    if getattr(script, "__spec__", None) is not None:  # python -m
        return False
    path = getattr(script, "__file__", None)
    if path is None:
        return True
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):  # "<stdin>", or not a Python file
        return True
    asked = (node.test for node in tree.body if isinstance(node, ast.If))
    names = (part for test in asked for part in ast.walk(test) if isinstance(part, ast.Name))
    return all(name.id != "__name__" for name in names)


def _packed_payload(payload: Any) -> pipe.Packed:
    try:
        return pipe.pack(payload)
    except Exception as error:
        raise ArgumentError(
            "DataLoader: the dataset, collate_fn and worker_init_fn must be picklable to be "
            f"sent to worker processes: {error}. Define functions at the top of a module, not as "
            'lambdas, or on Linux leave out multiprocessing_context, or give "fork"'
        ) from error


def _stop(connections: list[Any], processes: list[Any]) -> None:
    for connection in connections:
        with suppress(OSError):
            pipe.send(connection, pipe.pack(worker.STOP))
        connection.close()
    for process in processes:
        process.join(2)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
