"""Recorded steps that are bound to a cache's tensors, and reused for later caches.

A step is bound to a cache by the addresses of the cache's tensors. This takes as long as some tens
of steps of a small model. So when a cache is freed, its memory and the steps bound to it are kept.
The next cache of the same shape takes over that memory, by one copy of its content.
"""

from __future__ import annotations

import weakref
from typing import Any

from gradient.kv_cache import KVCache
from gradient.plan.step import Replay

#: The maximum number of bytes of arrays and bound steps that are kept for a model's next caches.
KEPT_BYTES = 64 << 20


class BoundSteps:
    """Steps bound to the arrays of a cache's tensors.

    Attributes:
        replays: the steps, by what decides their operations and by the sizes of the tensors.
    """

    def __init__(self, cache: KVCache) -> None:
        self.replays: dict[Any, Replay] = {}
        self._arrays = [t.array for t in cache.tensors]
        self._tensors = list(map(weakref.ref, cache.tensors))

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays and of the steps' own memory."""
        steps = sum(replay.nbytes for replay in self.replays.values())
        return steps + sum(t.nbytes for t in self._arrays)

    @property
    def unused(self) -> bool:
        """Whether the cache no longer exists."""
        return all(tensor() is None for tensor in self._tensors)

    def belong_to(self, cache: KVCache) -> bool:
        """Whether these are the arrays of the cache's tensors."""
        tensors = cache.tensors
        return len(tensors) == len(self._arrays) and all(
            t.array is x for t, x in zip(tensors, self._arrays, strict=True)
        )

    def match(self, cache: KVCache) -> bool:
        """Whether the arrays have the shapes and dtypes of the cache's."""
        return list(map(_layout, self._arrays)) == [_layout(t.array) for t in cache.tensors]

    def take_over(self, cache: KVCache) -> None:
        """Copy the cache's contents to these arrays, and make them the cache's."""
        tensors = cache.tensors
        for t, x in zip(tensors, self._arrays, strict=True):
            x[...] = t.array
        for t, x in zip(tensors, self._arrays, strict=True):
            t.array = x
        self._tensors = list(map(weakref.ref, tensors))


def _layout(x: Any) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.strides


class BoundStepsPool:
    """The bound steps of a model's caches on the CPU, including those of caches that no longer
    exist."""

    def __init__(self) -> None:
        self._kept: list[BoundSteps] = []  # that used last at the end

    def get(self, cache: KVCache) -> BoundSteps:
        """Return the bound steps of a cache; if it has none, those of a cache that no longer
        exists."""
        for each in self._kept:
            if each.belong_to(cache):
                return each
        new = BoundSteps(cache)
        if not may_take_over(cache) or new.nbytes > KEPT_BYTES:
            return new
        for each in list(self._kept):
            if each.unused and each.match(cache):
                try:
                    self._kept.remove(each)  # by one of two threads
                except ValueError:
                    continue
                each.take_over(cache)
                new = each
                break
        self._kept.append(new)
        return new

    def trim(self) -> None:
        """Free bound steps of caches that no longer exist, beyond `KEPT_BYTES`."""
        kept = 0
        for each in reversed(list(self._kept)):
            kept += each.nbytes
            if kept > KEPT_BYTES and each.unused:
                self._kept.remove(each)


def may_take_over(cache: KVCache) -> bool:
    """Whether a cache's arrays can be replaced: not those of a page pool, which caches share."""
    return cache.lengths.device.type == "cpu" and cache.pool is None
