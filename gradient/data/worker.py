"""The code of a loader's worker process."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gradient.backends.numpy.threads import set_num_threads
from gradient.data import pipe
from gradient.data.fetch import END, Fetcher, Recipe
from gradient.errors import DataLoaderError

__all__ = ["WorkerInfo", "get_worker_info"]

IMPORTABLE = (
    "fix: define the dataset and its functions in a module, or in a script above its "
    'if __name__ == "__main__": (a worker imports them, which it cannot from a notebook or from '
    'python -c), or give multiprocessing_context="fork"'
)

#: The message that ends a worker at once.
STOP = ("stop",)


@dataclass
class WorkerInfo:
    """The result of `get_worker_info()` in a worker.

    Attributes:
        id: 0 to num_workers - 1.
        seed: this epoch's seed for this worker.
        dataset: the worker's copy.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Return this worker's number and the number of workers; None in the main process.

    An IterableDataset uses it to give each worker its own part of the stream.
    """
    return _worker_info


@dataclass
class Failure:
    """An exception in a worker, to be raised again in the main process."""

    kind: type[BaseException] | None
    text: str
    where: str

    @classmethod
    def of(cls, error: BaseException, where: str) -> Failure:
        try:
            pickle.dumps(type(error))
            kind = type(error)
        except Exception:  # a class that exists only in the worker
            kind = None
        return cls(kind, "".join(traceback.format_exception(error)), where)

    def exception(self) -> BaseException:
        """An exception of the same type, with the worker's traceback in its message."""
        kind = self.kind or DataLoaderError
        message = f"caught {kind.__name__} {self.where}.\nOriginal {self.text}"
        if issubclass(kind, KeyError):
            message = _Verbatim(message)
        try:
            return kind(message)
        except Exception:  # a constructor with other arguments
            return DataLoaderError(message)


class _Verbatim(str):
    """A KeyError shows the repr of its message; this class's repr keeps a traceback's lines."""

    __repr__ = str.__str__


class Worker:
    """Serves messages: ("epoch", seed, state, skip), ("index", number, indices) and ("next",).

    "epoch" begins an epoch and has no answer. "index" (a batch by its indices) and "next" (the next
    of an iterable dataset) are answered by ("batch", batch, position), ("end",) or a Failure. A
    failure at the beginning is the answer to every request.
    """

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        self.count = count
        self._recipe: Recipe | None = None
        self._init: Callable[[int], None] | None = None
        self._fetcher: Fetcher | None = None
        self._failure: Failure | None = None

    def start(self, connection: Any, payload: tuple[Recipe, Any] | None) -> None:
        """Get the recipe and worker_init_fn: inherited by a fork, else in the first message."""
        try:
            self._recipe, self._init = pipe.receive(connection) if payload is None else payload
        except EOFError:
            raise
        except Exception as error:
            where = f"while starting DataLoader worker process {self.number}"
            self._failure = Failure.of(error, where)
            if isinstance(error, (AttributeError, ImportError)):
                self._failure.text += IMPORTABLE

    def serve(self, message: tuple[Any, ...]) -> Any:
        """Return the answer to a message; None for "epoch"."""
        kind, *arguments = message
        try:
            if kind == "epoch":
                if self._failure is None:
                    self._begin(*arguments)
                return None
            return self._failure or self._batch(kind, arguments)
        except Exception as error:
            failure = self.failure(error)
            if kind != "epoch":
                return failure
            self._failure = failure
            return None

    def failure(self, error: Exception) -> Failure:
        return Failure.of(error, f"in DataLoader worker process {self.number}")

    def _begin(self, seed: int, state: Any, skip: int) -> None:
        global _worker_info
        recipe = self._recipe
        assert recipe is not None
        _worker_info = WorkerInfo(self.number, self.count, seed, recipe.dataset)
        init, self._init = self._init, None
        if init is not None:
            init(self.number)
        self._fetcher = Fetcher(recipe, seed, state, restore=False)
        self._fetcher.skip(skip)

    def _batch(self, kind: str, arguments: list[Any]) -> tuple[Any, ...]:
        fetcher = self._fetcher
        assert fetcher is not None
        if kind == "index":
            return "batch", fetcher.indexed(*arguments), None
        batch = fetcher.following()
        return ("end",) if batch is END else ("batch", batch, fetcher.position())


def main(connection: Any, number: int, count: int, payload: tuple[Recipe, Any] | None) -> None:
    """Serve until the main process closes the connection, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    set_num_threads(1)  # the workers share the cores
    worker = Worker(number, count)
    try:
        worker.start(connection, payload)
    except EOFError:
        return
    # Requests are read in a thread, so that the main process never waits for us to read one: it
    # might be writing to us while we write to it.
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_messages, args=(connection, messages), daemon=True).start()
    while True:
        answer = worker.serve(messages.get())
        if answer is None:
            continue
        try:
            packed = pipe.pack(answer)
        except Exception as error:
            packed = pipe.pack(worker.failure(error))
        try:
            pipe.send(connection, packed)
        except OSError:
            return


def _read_messages(connection: Any, messages: queue.SimpleQueue[Any]) -> None:
    try:
        while (message := pipe.receive(connection)) != STOP:
            messages.put(message)
    except (EOFError, OSError):  # the main process died
        pass
    # The main thread's present work is not needed any more: end without it.
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
