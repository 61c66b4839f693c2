"""Worker processes of a loader, and the pipes to them.

Each worker has a pipe of its own: no lock is shared, so a worker that is killed harms no other, and
its death is seen at once. Tensors cross as raw bytes beside the pickled structure, without being
copied into it. (Pickle is used between a program and its own children only, never for files.)
"""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.connection
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradient.data.fetch import END, Fetcher, Recipe, is_stateful
from gradient.errors import ArgumentError, DataLoaderError
from gradient.io.arrays import tensor_of, to_numpy
from gradient.tensor import Tensor


@dataclass
class WorkerInfo:
    """What `get_worker_info()` says inside a worker.

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
_STOP = ("stop",)


def get_worker_info() -> WorkerInfo | None:
    """Which worker this is, of how many; None in the main process.

    An IterableDataset uses it to give each worker its own part of the stream.
    """
    return _worker_info


@dataclass
class Failure:
    """An exception in a worker, as it can be raised again in the main process."""

    kind: type[BaseException] | None
    text: str
    where: str

    @classmethod
    def of(cls, error: BaseException, where: str) -> Failure:
        try:
            pickle.dumps(type(error))
            kind = type(error)
        except Exception:  # a class that exists in the worker alone
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
        except Exception:  # a constructor that wants other arguments
            return DataLoaderError(message)


class _Verbatim(str):
    """A KeyError shows the repr of its message, in which a traceback would be one line."""

    __repr__ = str.__str__


class WorkerPool:
    """Workers that serve one loader, epoch after epoch.

    Raises:
        ArgumentError: dataset, collate_fn or worker_init_fn cannot be sent to another process.
    """

    def __init__(
        self,
        context: Any,
        num_workers: int,
        recipe: Recipe,
        worker_init_fn: Callable[[int], None] | None,
    ):
        self.outstanding = [0] * num_workers
        self._connections: list[Any] = []
        self._processes: list[Any] = []
        payload = (recipe, worker_init_fn)
        # A forked child has the objects already; others get them through the pipe.
        forked = context.get_start_method() == "fork"
        packed = None if forked else _pack_payload(payload)
        for number in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_worker_main,
                args=(theirs, number, num_workers, payload if forked else None),
                name=f"gradient-data-{number}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._finalizer = weakref.finalize(self, _stop, self._connections, self._processes)
        if packed is not None:
            # Only now: all of them start up at the same time.
            for connection, process in zip(self._connections, self._processes, strict=True):
                try:
                    _send_packed(connection, packed)
                except OSError:
                    raise self._died(process) from None

    def __len__(self) -> int:
        return len(self._processes)

    def send(self, worker: int, message: tuple[Any, ...]) -> None:
        """Ask `worker` for something; each message but "epoch" is answered once, in order."""
        try:
            _send(self._connections[worker], message)
        except OSError:
            raise self._died(self._processes[worker]) from None
        self.outstanding[worker] += message[0] != "epoch"

    def receive(self, worker: int, timeout: float = 0) -> Any:
        """The next answer of `worker`; exceptions in it are raised here.

        Args:
            timeout: seconds to wait; 0 waits as long as the worker lives.

        Raises:
            DataLoaderError: the worker died, or did not answer in time.
        """
        connection, process = self._connections[worker], self._processes[worker]
        ready = multiprocessing.connection.wait([connection, process.sentinel], timeout or None)
        if not ready:
            self.close()  # nobody knows when it would have answered
            raise DataLoaderError(f"DataLoader: no batch from worker {worker} in {timeout} s")
        try:
            # A worker that has just died may have answered before.
            if connection not in ready and not connection.poll():
                raise EOFError
            answer = _receive(connection)
        except (EOFError, OSError):
            raise self._died(process) from None
        self.outstanding[worker] -= 1
        if isinstance(answer, Failure):
            # Not held in a variable: it would hold this frame, and so the workers, in a cycle.
            raise answer.exception() from None
        return answer

    def drain(self) -> None:
        """Throw away answers of an epoch that was not finished."""
        for worker in range(len(self)):
            while self.outstanding[worker]:
                self.outstanding[worker] -= 1
                try:
                    _receive(self._connections[worker])
                except (EOFError, OSError):
                    raise self._died(self._processes[worker]) from None

    @property
    def is_closed(self) -> bool:
        """Whether the workers have ended."""
        return not self._finalizer.alive

    def close(self) -> None:
        """End the workers."""
        self._finalizer()

    def _died(self, process: Any) -> DataLoaderError:
        process.join(1)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
        hint = (
            " (out of memory?)"
            if code == -signal.SIGKILL
            else '. A script that starts workers must do so under if __name__ == "__main__":'
            if code == 1
            else ""
        )
        self.close()
        return DataLoaderError(f"DataLoader: worker process {process.name} {how}{hint}")


def _stop(connections: list[Any], processes: list[Any]) -> None:
    for connection in connections:
        with suppress(OSError):
            _send(connection, _STOP)
        connection.close()
    for process in processes:
        process.join(2)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


# In the worker ---------------------------------------------------------------------------------


def _worker_main(connection: Any, number: int, count: int, payload: Any) -> None:
    global _worker_info
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    failure = None
    init = None
    recipe: Any = None
    try:
        recipe, init = payload if payload is not None else _receive(connection)
    except EOFError:
        return
    except Exception as error:
        failure = Failure.of(error, f"while starting DataLoader worker process {number}")
    # Requests are read in a thread, so that the main process never waits for us to take one: it
    # might be writing to us while we write to it.
    threading.Thread(target=_read_messages, args=(connection, messages), daemon=True).start()
    fetcher: Fetcher | None = None
    started = False
    while True:
        kind, *arguments = messages.get()
        answer: Any = None
        try:
            if kind == "epoch" and failure is None:
                seed, state, skip = arguments
                _worker_info = WorkerInfo(number, count, seed, recipe.dataset)
                if init is not None and not started:
                    init(number)
                started = True
                fetcher = Fetcher(recipe, seed, state, restore=False)
                fetcher.skip(skip)
            elif failure is None and fetcher is not None:
                answer = _serve(fetcher, kind, arguments)
        except Exception as error:
            answer = Failure.of(error, f"in DataLoader worker process {number}")
            if kind == "epoch":
                failure = answer
        if kind == "epoch":
            continue
        try:
            _send(connection, failure or answer)
        except OSError:
            return
        except Exception as error:  # the batch cannot be pickled
            _send(connection, Failure.of(error, f"in DataLoader worker process {number}"))


def _serve(fetcher: Fetcher, kind: str, arguments: list[Any]) -> tuple[Any, ...]:
    if kind == "index":
        return "batch", fetcher.indexed(*arguments), None
    batch = fetcher.following()
    if batch is END:
        return ("end",)
    state = fetcher.position() if is_stateful(fetcher.recipe.dataset) else None
    return "batch", batch, state


def _read_messages(connection: Any, messages: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            message = _receive(connection)
            if message == _STOP:
                break
            messages.put(message)
    except (EOFError, OSError):  # the main process died
        pass
    # Nobody wants what the main thread is doing: it is not asked.
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


# Messages --------------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Tensors go as NumPy arrays, whose memory is sent beside the pickle."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return _restore_tensor, (to_numpy(obj.detach().cpu()), obj.requires_grad)
        return NotImplemented


def _restore_tensor(array: np.ndarray, requires_grad: bool) -> Tensor:
    tensor = tensor_of(array)
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _pack(message: Any) -> tuple[bytes, list[memoryview]]:
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(message)
    return stream.getvalue(), [buffer.raw() for buffer in buffers]


def _pack_payload(payload: Any) -> tuple[bytes, list[memoryview]]:
    try:
        return _pack(payload)
    except Exception as error:
        raise ArgumentError(
            "DataLoader: the dataset, collate_fn and worker_init_fn must be picklable to be "
            f"sent to worker processes: {error}. Define functions at the top of a module, not as "
            'lambdas, or give multiprocessing_context="fork" (not where threads are running)'
        ) from error


def _send(connection: Any, message: Any) -> None:
    _send_packed(connection, _pack(message))


def _send_packed(connection: Any, packed: tuple[bytes, list[memoryview]]) -> None:
    pickled, buffers = packed
    sizes = [buffer.nbytes for buffer in buffers]
    connection.send_bytes(struct.pack(f"<{len(sizes)}Q", *sizes) + b"\0")
    connection.send_bytes(pickled)
    for buffer in buffers:
        if buffer.nbytes:
            connection.send_bytes(buffer)


def _receive(connection: Any) -> Any:
    head = connection.recv_bytes()
    sizes = struct.unpack(f"<{(len(head) - 1) // 8}Q", head[:-1])
    pickled = connection.recv_bytes()
    buffers = []
    for size in sizes:
        memory = np.empty(size, np.uint8)  # writable, and aligned for any dtype
        if size:
            connection.recv_bytes_into(memory)
        buffers.append(memory)
    return pickle.loads(pickled, buffers=buffers)
