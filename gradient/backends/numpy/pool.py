"""The workers of the thread pool: Python threads that wait in native code (`kernels.driver`)."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradient.backends.numpy import compiler, kernels
from gradient.locks import new_lock

SPIN_SECONDS = 50e-6
"""How long a worker looks for the next list at full speed, before it lets others run and sleeps."""


class Pool:
    """`count` workers, in addition to the calling thread."""

    def __init__(self, count: int):
        self.count = count
        self.driver: Any = kernels.load("driver")
        driver = self.driver
        size = driver.CONTROL_SIZE + driver.ROW + 8
        self._memory = np.zeros((size + driver.SEAT * max(count, 1) + 64) // 8, np.int64)
        self.control = -(-self._memory.ctypes.data // 64) * 64
        self._seats = self.control + size
        self.run = driver.run
        self.run_one = driver.run_one
        self._workers: list[threading.Thread] = []
        self._compile()
        self._set(driver.WORKERS, count)
        self._set(driver.SEATS, self._seats)
        self._set(driver.SPINS, self._spins() if count else 0)

    def _set(self, place: int, value: int) -> None:
        self._write(self.control + place, value)

    def _write(self, address: int, value: int) -> None:
        self._memory[(address - self._memory.ctypes.data) // 8] = value

    def _compile(self) -> None:
        """Compile the driver, or load it, before any thread needs it."""
        driver = self.driver
        driver.spin(0)
        driver.run(self.control, 0, 0, 0)
        nothing = np.zeros(2, np.int64)
        nothing[1] = address = nothing.ctypes.data
        driver.run_one(self.control, 0, 0, address, 0, 1)
        driver.reserve(self.control, 1)
        driver.unreserve(self.control, 1)
        self._set(driver.GATE, driver.STOP)
        driver.worker(self.control, self._seats)
        self._set(driver.GATE, 0)

    def _spins(self) -> int:
        """The number of polls of a counter in SPIN_SECONDS; it differs tenfold among processors."""
        looks = 1000
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            self.driver.spin(looks)
            seconds.append(time.perf_counter() - begin)
        return max(100, round(SPIN_SECONDS / max(min(seconds), 1e-9) * looks))

    def start(self) -> None:
        for i in range(self.count):
            # A daemon, so that the end of the process reaches `_stop_at_exit`.
            worker = threading.Thread(
                target=self._work, args=(i,), name=f"gradient-{i}", daemon=True
            )
            worker.start()
            self._workers.append(worker)

    def _work(self, i: int) -> None:
        driver, seat = self.driver, self._seats + self.driver.SEAT * i
        self._write(seat + driver.THREAD, threading.get_native_id())
        if hasattr(os, "sched_getaffinity"):
            mask = sum(1 << cpu for cpu in os.sched_getaffinity(0) if cpu < 8 * driver.MASK_SIZE)
            for at, word in enumerate(struct.unpack("16q", mask.to_bytes(128, "little"))):
                self._write(seat + driver.MASK + 8 * at, word)
        driver.worker(self.control, seat)  # the thread holds `self`, and so the control block

    def asleep(self) -> list[int]:
        """For each worker, the sleep flag of its seat."""
        first = (self._seats + self.driver.ASLEEP - self._memory.ctypes.data) // 8
        return self._memory[first :: self.driver.SEAT // 8][: self.count].tolist()

    def stop(self) -> None:
        """Stop the workers after their present work. Lists still run, on the calling thread."""
        self.driver.stop(self.control)
        for worker in self._workers:
            worker.join()


current: Pool | None = None
"""The pool, once it is started."""
_ended = False
_lock = new_lock()


def get(threads: int) -> Pool:
    """Return the pool; the first call starts it, for this number of threads."""
    global current
    with _lock:
        if current is None:
            current = Pool(0 if _ended else threads - 1)
            # In a thread that Ctrl-C does not reach. If it ends the wait, the workers start later.
            compiler.run(current.start)
        return current


def stop() -> None:
    """Stop the workers; the next use of the pool starts new ones."""
    global current
    with _lock:
        pool, current = current, None
        if pool is not None:
            pool.stop()


_tokens = itertools.count(1)


@contextlib.contextmanager
def reserved() -> Iterator[None]:
    """Context in which lists of tasks run on the calling thread, as other threads are working."""
    pool, token = current, next(_tokens)
    if pool is None:
        yield
        return
    try:
        pool.driver.reserve(pool.control, token)
        yield
    finally:  # no effect if another thread holds it, so Ctrl-C is safe at any point
        pool.driver.unreserve(pool.control, token)


@atexit.register
def _stop_at_exit() -> None:
    """Stop the workers at exit, as their code is freed at the end of the process."""
    global _ended
    _ended = True
    with contextlib.suppress(KeyboardInterrupt):
        stop()


def _forget() -> None:
    global current
    current = None


# Threads do not survive a fork: a child process makes its own pool at its first use.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
