"""Indices and divisors that an op looks at without waiting for them.

MLX reads and writes foreign memory where an index lies outside an array, and computes only when
something is read. So an op asks what it has to know in the same graph, and goes on with numbers
that do no harm; the plugin looks at the answers when it computes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import mlx.core as mx


class Doubt:
    """What the lowest and the highest of some numbers, still to be computed, may be.

    bad    a bool array: whether they are not
    error  their error, once they are known; None where all is well
    """

    __slots__ = ("bad", "extremes", "message", "op", "say")

    def __init__(self, low: Any, high: Any, bad: Any, say: Callable[[int, int], Exception]):
        self.bad, self.say = bad, say
        self.extremes = mx.stack([low, high])
        self.message, self.op = 0, ""

    def error(self) -> Exception | None:
        if not self.bad.item():
            return None
        found: Any = self.extremes.tolist()
        return self.say(*found)


asked: list[Doubt] = []
"""Those of the op that is being computed."""
inherited: set[Doubt] = set()
"""Those of its inputs."""


def within(index: Any, low: int, size: int, axis: int) -> Any:
    """An index whose numbers are from `low` to `size` - 1: others do not get through, and are an
    error later."""

    def say(lowest: int, highest: int) -> IndexError:
        wrong = lowest if lowest < low else highest
        return IndexError(f"index {wrong} is out of bounds for axis {axis} with size {size}")

    if not index.size:
        return index
    if not size:
        lowest: Any = mx.min(index).item()
        highest: Any = mx.max(index).item()
        raise say(lowest, highest)
    index = index.astype(mx.int64)
    least, most = mx.min(index), mx.max(index)
    asked.append(Doubt(least, most, (least < low) | (most >= size), say))
    return mx.clip(index, low, size - 1)


def divisor(b: Any) -> Any:
    """Integers to divide by: 0 does not get through, and is an error later."""
    zero = b == 0
    bad = mx.any(zero)
    none = mx.array(0)
    asked.append(Doubt(none, none, bad, lambda *_: ZeroDivisionError("integers divided by 0")))
    return mx.where(zero, mx.array(1, dtype=b.dtype), b)


def unless_bad(value: Any, otherwise: Callable[[], Any]) -> Any:
    """`value`; where an input or index of the op is of no use, what there is `otherwise`."""
    doubts = inherited.union(asked)
    return mx.where(any_of(frozenset(doubts)), otherwise(), value) if doubts else value


_combined: dict[frozenset[Doubt], Any] = {}


def any_of(doubts: frozenset[Doubt]) -> Any:
    """A bool array: whether one of them is right. Writes that follow one another ask for the same
    ones, so it is kept until some of them are settled."""
    found = _combined.get(doubts)
    if found is None:
        found = functools.reduce(operator.or_, (doubt.bad for doubt in doubts))
        _combined[doubts] = found
    return found


def forget_combined() -> None:
    """Let go of what `any_of` keeps, and with it of arrays that it is computed from."""
    _combined.clear()
