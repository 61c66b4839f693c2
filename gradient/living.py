"""Which objects of a kind live, without keeping them alive."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """Objects that are forgotten as they die. Any thread may add one, or look."""

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[T]] = {}

    def add(self, x: T) -> None:
        key, refs = id(x), self._refs
        refs[key] = weakref.ref(x, lambda _: refs.pop(key, None))

    def all(self) -> list[T]:
        """Those that live, the oldest first."""
        return [x for ref in list(self._refs.values()) if (x := ref()) is not None]
