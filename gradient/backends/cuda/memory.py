"""The most memory that was in use on a GPU, as CuPy's pool tells it allocation by allocation."""

from __future__ import annotations

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
