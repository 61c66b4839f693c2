"""Attributes that a function sets to tensors that it makes, such as `self.balance = loss`: a replay
sets them to its own.

They may not be read before they are set, and have no graph when the function returns: a plan reads
the memory of tensors that were there before it, and differentiates what the function returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gradient.plan.backward import is_live
from gradient.plan.recording import Recording
from gradient.plan.watch import Watch
from gradient.tensor import Tensor


@dataclass(frozen=True, eq=False)
class Attribute:
    """An entry of an object's dict, and whether it was None before the function set it."""

    path: str
    owner: dict[str, Any]
    name: str
    was_none: bool

    @property
    def key(self) -> tuple[int, str]:
        return id(self.owner), self.name

    def changed(self) -> bool:
        """Whether the function may find something else there than when it was recorded."""
        return (self.owner.get(self.name) is None) is not self.was_none


class WithAttributes:
    """A function that also returns the tensors that attributes are set to. After a call,
    `attributes` are these, and `replaced` the ids of what was there before."""

    def __init__(self, function: Callable[..., Any], watch: Watch):
        self.function, self.watch = function, watch
        self.attributes: list[Attribute] = []
        self._before: list[Any] = []

    def __call__(self, *args: Any, **options: Any) -> tuple[Any, list[Tensor]]:
        result = self.function(*args, **options)
        self.attributes, self._before, kept = [], [], []
        for path, owner, name, was, now in self.watch.replaced():
            if type(now) is not Tensor or id(now) in self.watch.tensors:
                continue
            if (was is None or isinstance(was, Tensor)) and not _has_graph(now):
                self.attributes.append(Attribute(path, owner, name, was is None))
                self._before.append(was)
                kept.append(now)
        return result, kept

    @property
    def replaced(self) -> set[int]:
        return {id(was) for was in self._before}

    def found(self, recording: Recording) -> list[Attribute]:
        """The attributes that a replay can set, from the recording of the call."""
        made = {id(t) for t, _ in recording.survivors}
        read = {id(t) for tensors in recording.tensors.values() for t in tensors}
        _, kept = recording.result
        return [
            attribute
            for attribute, was, now in zip(self.attributes, self._before, kept, strict=True)
            if id(now) in made and id(was) not in read
        ]


def set_all(attributes: Sequence[Attribute], tensors: Sequence[Tensor]) -> None:
    """Set attributes to the tensors of a replay."""
    for attribute, tensor in zip(attributes, tensors, strict=True):
        attribute.owner[attribute.name] = tensor


def _has_graph(t: Tensor) -> bool:
    return t.node is not None and (t.node.op is None or is_live(t.node))
