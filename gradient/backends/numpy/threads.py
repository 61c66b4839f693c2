"""The threads of kernels and matrix products.

Kernels run on a pool of native workers (`pool`): one call by `parallel_for`, lists of calls by
`run_tasks`. Other work, such as the parts of a BLAS product, runs as Python functions on an
executor, by `run`. Its threads wait without spinning, and the kernels' workers get no work
meanwhile: there are never more active threads than requested.

Work is split into chunks whose size depends only on the shapes, and threads take chunk numbers from
one counter. So results do not depend on the number of threads, and if the system delays a thread,
this delays one chunk, not a whole share.
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
    """OMP_NUM_THREADS, as in other numerical programs; else the number of usable CPUs."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return usable_cpus()


_threads = _default()
_helpers: ThreadPoolExecutor | None = None
"""The threads of `run`."""


def get_num_threads() -> int:
    """Return the number of threads of kernels and matrix products on the CPU."""
    return _threads


def set_num_threads(num: int) -> None:
    """Use `num` threads on the CPU. Results do not depend on the number."""
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

    `work` should spend its time in code that releases the GIL: a kernel, or a NumPy function on a
    large array. Kernels that it calls run on a single thread. The first exception is raised here
    after all threads have stopped.
    """
    helpers = min(_threads, count) - 1
    if helpers < 1:
        for i in range(count):
            work(i)
        return
    # Taking the next number is atomic: it is a single call under the GIL.
    remaining = iter(range(count))

    def run_remaining() -> None:
        try:
            for i in remaining:
                work(i)
        except BaseException:
            for _ in remaining:  # so that no thread starts another chunk
                pass
            raise

    with pool.reserved():
        futures: list[Future[None]] = [_executor().submit(run_remaining) for _ in range(helpers)]
        try:
            run_remaining()
        finally:
            # A helper that has not started by now has no work left.
            started = [future for future in futures if not future.cancel()]
            errors = [future.exception() for future in started]
    for error in filter(None, errors):
        raise error


def parallel_for(kernel: Callable[..., Any], n: int, chunk: int, *arguments: Any) -> None:
    """Call kernel(start, stop, *arguments) for consecutive ranges of at most `chunk` of n rows.

    The kernel, a numba function of `kernels/`, runs without Python in between: Ctrl-C takes effect
    at the end. Several ranges cost 3 us more than the kernel's work.
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


def ran(launch: tuple[Any, ...] | None) -> bool:
    """Call `parallel_for` with these arguments, if there are any; return whether it was done."""
    if launch is None:
        return False
    parallel_for(*launch)
    return True


listeners: dict[int, Callable[..., Any]] = {}
"""By thread: what is told of the kernels that its calls start."""


@contextmanager
def listening(listener: Callable[..., Any]) -> Iterator[None]:
    """Context in which each `parallel_for` of this thread also calls
    `listener(kernel, n, chunk, *arguments)`."""
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

    Ctrl-C takes effect at the end. Only one list at a time uses the pool: meanwhile, other threads
    run their lists alone, without waiting, with the same results.
    """
    workers = pool.current or pool.get(_threads)
    workers.run(workers.control, *tasks.table())
    tasks.check()


def precompile(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Compile a kernel for such arguments, by calling it for an empty range.

    Call this before threads of the pool run the kernel: the process waits for them at exit, and a
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
        # Start the workers from a separate thread, which Ctrl-C does not reach: between a worker's
        # start and its registration, it would leave the program waiting for the worker at exit.
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


# Threads do not survive a fork: a child process makes its own at their first use.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)
