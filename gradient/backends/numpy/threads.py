"""The threads of kernels and matrix products.

Kernels run on a pool of native workers (`pool`): one call by `parallel_for`, lists of calls by
`run_tasks`. What is no kernel, such as the parts of a matrix product, runs as Python functions on
an executor, by `run`. Its threads wait without spinning, and while it works the kernels' workers
get nothing to do: there are never more threads at work than were asked for.

Work is cut into chunks whose size depends on the shapes alone, and threads draw chunk numbers from
one sequence. So results do not depend on the number of threads, and a thread that the system delays
costs one chunk, not its whole share.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradient.backends.numpy import pool, tasks
from gradient.backends.numpy.cpu_count import usable_cpus
from gradient.backends.numpy.tasks import Tasks as Tasks
from gradient.errors import ArgumentError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


def _default() -> int:
    """OMP_NUM_THREADS, as is the custom of numerical programs; else the CPUs we may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return usable_cpus()


_threads = _default()
_helpers: ThreadPoolExecutor | None = None
"""The threads of `run`."""


def get_num_threads() -> int:
    """How many threads kernels and matrix products use on the CPU."""
    return _threads


def set_num_threads(num: int) -> None:
    """Use `num` threads on the CPU. Results are the same for every number."""
    global _threads, _helpers
    if not isinstance(num, int) or num < 1:
        raise ArgumentError(f"set_num_threads: expected a positive int, got {num!r}")
    if num != _threads:
        pool.stop()
        if _helpers is not None:
            _helpers.shutdown()
            _helpers = None
    _threads = num


def run(count: int, work: Callable[[int], Any]) -> None:
    """Call work(0), ..., work(count - 1), each once, in any order, on all threads.

    `work` should spend its time in code that lets go of the interpreter lock: a kernel, a NumPy
    function on a large array. The kernels that it calls have no other threads meanwhile. The first
    exception is raised here after all threads have stopped.
    """
    helpers = min(_threads, count) - 1
    if helpers < 1:
        for i in range(count):
            work(i)
        return
    # Taking a number from one iterator is atomic: it is a single call under the interpreter lock.
    remaining = iter(range(count))

    def run_remaining() -> None:
        try:
            for i in remaining:
                work(i)
        except BaseException:
            for _ in remaining:  # nobody starts another chunk
                pass
            raise

    with pool.reserved():
        futures: list[Future[None]] = [_executor().submit(run_remaining) for _ in range(helpers)]
        try:
            run_remaining()
        finally:
            # A helper that has not woken by now has nothing left to do.
            started = [future for future in futures if not future.cancel()]
            errors = [future.exception() for future in started]
    for error in filter(None, errors):
        raise error


def parallel_for(kernel: Callable[..., Any], n: int, chunk: int, *arguments: Any) -> None:
    """Call kernel(start, stop, *arguments) for consecutive ranges of at most `chunk` of n rows.

    The kernel, a numba function of `kernels/`, runs without Python in between: Ctrl-C arrives when
    all is done. More than one range costs 3 us beyond the kernel's work.
    """
    if listeners:
        _tell(kernel, n, chunk, *arguments)
    if n <= chunk:
        kernel(0, n, *arguments)
        return
    block = tasks.take_block()
    entry, code = tasks.bind(kernel, block.address, arguments)
    workers = pool.current or pool.get(_threads)
    if workers.run_one(workers.control, entry, code, block.address, n, chunk):
        raise RuntimeError(f"{kernel.__name__}: the kernel raised an exception (out of memory?)")
    tasks.give_back(block)


listeners: dict[int, Callable[..., Any]] = {}
"""By thread: what is told of the kernels that its calls start."""


@contextmanager
def listening(listener: Callable[..., Any]) -> Iterator[None]:
    """Have `listener(kernel, n, chunk, *arguments)` told of what `parallel_for` is asked here, by
    this thread. It is done all the same."""
    thread = threading.get_ident()
    listeners[thread] = listener
    try:
        yield
    finally:
        del listeners[thread]


def _tell(*launch: Any) -> None:
    listener = listeners.get(threading.get_ident())
    if listener is not None:
        listener(*launch)


def run_tasks(tasks: Tasks) -> None:
    """Run a list of tasks, in one call without Python in between (see `Tasks`).

    Ctrl-C arrives when all is done. One list at a time has the pool: a thread that calls while
    another's list runs does its own alone, rather than wait, and gets the same results.
    """
    workers = pool.current or pool.get(_threads)
    workers.run(workers.control, *tasks.table())
    tasks.check()


def precompile(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Have a kernel compiled for such arguments, by calling it for an empty range.

    To be done before threads of the pool call it: the end of the process waits for them, and a
    compilation can take a minute.
    """
    kernel(0, 0, *arguments)


def _executor() -> ThreadPoolExecutor:
    global _helpers
    if _helpers is None:
        from concurrent.futures import ThreadPoolExecutor

        # The calling thread works too.
        n = max(1, _threads - 1)
        executor = ThreadPoolExecutor(n, thread_name_prefix="gradient")
        # The workers are started from a thread of their own, which Ctrl-C does not reach: one that
        # came between a worker's start and its registration would leave the program waiting for
        # it at exit.
        together = threading.Barrier(n)
        starter = threading.Thread(
            target=lambda: [executor.submit(together.wait) for _ in range(n)], daemon=True
        )
        starter.start()
        starter.join()
        _helpers = executor
    return _helpers


def _forget_helpers() -> None:
    global _helpers
    _helpers = None


# Threads do not survive a fork: a child process makes its own when it first needs one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)
