"""The most memory that was in use on a GPU, as CuPy's pool tells it allocation by allocation, and
what must not be freed before work that is queued is done with it.

A pool gives memory that was freed to whoever asks next. That is right for one stream, where work is
done in order, and wrong for what a copy reads or writes meanwhile, or another stream uses.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any


class Peaks:
    """Counts from when it is made, in the thread that makes it: telling costs each allocation a
    microsecond, which a program that never asks is spared.

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
        """Begin with what is in use now."""
        self.used = self.allocated = int(self._pool.used_bytes())
        self.reserved = int(self._pool.total_bytes())


class InFlight:
    """Objects, each with an event after which nothing uses it.

    runtime    `CupyRuntime`
    """

    def __init__(self, runtime: Any):
        self._runtime = runtime
        self._kept: deque[tuple[Any, Any]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, held: Any, stream: Any = None) -> None:
        """Keep an object alive until what is queued on a stream up to here is done: on the current
        one unless told."""
        self.release()
        event = self._runtime.new_event(False, False)
        with self._runtime.on_device():
            event.record(self._runtime.current_stream() if stream is None else stream)
        self._kept.append((event, held))

    def keep_when_freed(self, x: Any, memory: Any, stream: Any) -> None:
        """Keep the memory of an array, once that is gone, until what is queued on a stream by then
        is done."""
        weakref.finalize(x, self.keep, memory, stream).atexit = False

    def release(self) -> None:
        """Let go what is used no more. (No lock: a finaliser may run between any two lines.)"""
        for _ in range(len(self._kept)):
            try:
                event, held = self._kept.popleft()
            except IndexError:  # another thread is here, too
                return
            if not event.done:
                self._kept.append((event, held))
