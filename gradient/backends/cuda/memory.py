"""Peak memory of a GPU, counted at each allocation of CuPy's pool; and objects that must not be
freed before queued work is done with them.

A pool reuses freed memory for the next allocation. This is correct within one stream, whose work
runs in order, but not for memory that an asynchronous copy or another stream still uses.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any


class Peaks:
    """Counts peaks from its creation, in the thread that creates it. It costs a microsecond per
    allocation, so it is created only on demand.

    pool     CuPy's memory pool
    hook     CuPy's class `MemoryHook`
    """

    def __init__(self, pool: Any, hook: Any, index: int):
        self._pool = pool
        self.reset()
        peaks = self

        class Counting(hook):
            name = f"peaks of cuda:{index}"

            def malloc_postprocess(self, **block: int) -> None:
                if block["device_id"] == index:
                    peaks.used += block["mem_size"]
                    peaks.allocated = max(peaks.allocated, peaks.used)

            def free_postprocess(self, **block: int) -> None:
                if block["device_id"] == index:
                    peaks.used -= block["mem_size"]

            def alloc_postprocess(self, **block: int) -> None:
                if block["device_id"] == index:
                    peaks.reserved = max(peaks.reserved, pool.total_bytes())

        Counting().__enter__()

    def reset(self) -> None:
        """Restart from the memory in use now."""
        self.used = self.allocated = int(self._pool.used_bytes())
        self.reserved = int(self._pool.total_bytes())


class InFlight:
    """Objects kept alive, each with an event after which no work uses it.

    runtime    `CupyRuntime`
    """

    def __init__(self, runtime: Any):
        self._runtime = runtime
        self._kept: deque[tuple[Any, Any]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, held: Any, stream: Any = None) -> None:
        """Keep an object alive until the work queued so far on a stream (default: the current one)
        is done."""
        self.release()
        event = self._runtime.new_event(False, False)
        with self._runtime.on_device():
            event.record(self._runtime.current_stream() if stream is None else stream)
        self._kept.append((event, held))

    def keep_when_freed(self, x: Any, memory: Any, stream: Any) -> None:
        """When the array is freed, keep its memory until the work queued on a stream by then is
        done."""
        weakref.finalize(x, self.keep, memory, stream).atexit = False

    def release(self) -> None:
        """Free the objects that are no longer used. (Without a lock, as finalisers may run between
        any two lines.)"""
        for _ in range(len(self._kept)):
            try:
                event, held = self._kept.popleft()
            except IndexError:  # another thread was faster
                return
            if not event.done:
                self._kept.append((event, held))
