"""Recorded steps that are bound to a cache's tensors, and reused for later caches.

A step is bound to a cache by the addresses of the cache's tensors. This takes as long as some ten
steps by the modules; on a GPU, a graph is captured. So when a cache is freed, its memory and the
steps bound to it are kept. The next cache of the same shape takes over that memory, by one copy of
its content.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from gradient.backends import registry
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
        self.backend = cache.lengths.backend
        self._queue = self.backend.queue()
        self._arrays = [t.array for t in cache.tensors]
        self._arrays_nbytes = sum(t.nbytes for t in cache.tensors)
        self._tensors = list(map(weakref.ref, cache.tensors))

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays and of the steps' own memory."""
        replays = list(self.replays.values())  # at once: another thread may add one
        return self._arrays_nbytes + sum(replay.nbytes for replay in replays)

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
        """Whether the arrays have the shapes and dtypes of the cache's, and work on them is done
        before what is queued now."""
        return self._queue == cache.lengths.backend.queue() and list(
            map(_layout, self._arrays)
        ) == [_layout(t.array) for t in cache.tensors]

    def used(self) -> None:
        """Note where the work is queued that uses the arrays from now on."""
        self._queue = self.backend.queue()

    def take_over(self, cache: KVCache) -> None:
        """Copy the cache's contents to these arrays, and make them the cache's."""
        tensors = cache.tensors
        for t, x in zip(tensors, self._arrays, strict=True):
            self.backend.assign(x, ..., t.array)
        for t, x in zip(tensors, self._arrays, strict=True):
            t.array = x
        self._tensors = list(map(weakref.ref, tensors))


def _layout(x: Any) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.strides


class BoundStepsPool:
    """The bound steps of a model's caches, including those of caches that no longer exist."""

    def __init__(self) -> None:
        self._kept: list[BoundSteps] = []  # that used last at the end
        self._lock = threading.RLock()
        _pools.add(self)

    def find(self, cache: KVCache, name: Any) -> BoundSteps | None:
        """Return the bound steps of a cache if they have the one of this name; if the cache has
        none at all, it takes over those of a cache that no longer exists and had it."""
        with self._lock:
            own = self._of(cache)
            if own is not None:
                return own if name in own.replays else None
            return self._taken_over(cache, name)

    def get(self, cache: KVCache) -> BoundSteps:
        """Return the bound steps of a cache; if it has none, those of a cache that no longer
        exists, or new ones."""
        with self._lock:
            found = self._of(cache) or self._taken_over(cache, None)
            if found is None:
                found = BoundSteps(cache)
                if may_take_over(cache):
                    self._kept.append(found)
            return found

    def _of(self, cache: KVCache) -> BoundSteps | None:
        return next((each for each in self._kept if each.belong_to(cache)), None)

    def _taken_over(self, cache: KVCache, name: Any) -> BoundSteps | None:
        if not self._kept or not may_take_over(cache):
            return None
        for each in reversed(self._kept):
            if each.unused and (name is None or name in each.replays) and each.match(cache):
                self._kept.remove(each)
                each.take_over(cache)
                self._kept.append(each)
                self.trim()
                return each
        return None

    def trim(self) -> None:
        """Free bound steps of caches that no longer exist, beyond `KEPT_BYTES`."""
        kept = 0
        with self._lock:
            for each in reversed(list(self._kept)):
                kept += each.nbytes
                if kept > KEPT_BYTES and each.unused:
                    self._kept.remove(each)

    def forget(self, name: Any) -> None:
        """Free the bound steps of this name of all caches."""
        with self._lock:
            for each in self._kept:
                each.replays.pop(name, None)

    def free(self, backend: Any) -> None:
        """Free the bound steps on a backend of all caches that no longer exist."""
        with self._lock:
            self._kept = [x for x in self._kept if x.backend is not backend or not x.unused]


def may_take_over(cache: KVCache) -> bool:
    """Whether a cache's arrays can be replaced by kept ones: not those of a page pool, which caches
    share, nor those that are too large to be kept."""
    return cache.pool is None and cache.nbytes <= KEPT_BYTES


_pools: weakref.WeakSet[BoundStepsPool] = weakref.WeakSet()


def _free(backend: Any) -> None:
    for pool in list(_pools):
        pool.free(backend)


registry.frees_memory.append(_free)
