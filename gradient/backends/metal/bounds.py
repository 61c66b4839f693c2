"""Checks of indices and divisors without waiting for their values.

For an index out of range, MLX reads or writes outside of the array; and it computes lazily. So an
op adds the check to the same lazy graph, and uses clipped, harmless values. The plugin reads the
checks when it computes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import mlx.core as mx


class Check:
    """A pending check of some numbers by their minimum and maximum, which are not computed yet.

    bad    a bool array: whether the check fails
    error  the error, which waits for the values; None if the check passes
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


added: list[Check] = []
"""The checks of the op that is being computed."""
inherited: set[Check] = set()
"""The checks of its inputs."""


def within(index: Any, low: int, size: int, axis: int) -> Any:
    """The index, clipped to `low` ... `size` - 1. Numbers beyond raise an error later."""

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
    added.append(Check(least, most, (least < low) | (most >= size), say))
    return mx.clip(index, low, size - 1)


def divisor(b: Any) -> Any:
    """Integers to divide by, with 1 in place of 0. A 0 raises an error later."""
    zero = b == 0
    bad = mx.any(zero)
    none = mx.array(0)
    added.append(Check(none, none, bad, lambda *_: ZeroDivisionError("integers divided by 0")))
    return mx.where(zero, mx.array(1, dtype=b.dtype), b)


def unless_bad(value: Any, otherwise: Callable[[], Any]) -> Any:
    """`value`; or `otherwise()` if a check of the op or of its inputs fails."""
    checks = inherited.union(added)
    return mx.where(any_fails(frozenset(checks)), otherwise(), value) if checks else value


_combined: dict[frozenset[Check], Any] = {}


def any_fails(checks: frozenset[Check]) -> Any:
    """A bool array: whether any of the checks fails. Consecutive writes need the same result, so it
    is cached until some checks are resolved."""
    found = _combined.get(checks)
    if found is None:
        found = functools.reduce(operator.or_, (check.bad for check in checks))
        _combined[checks] = found
    return found


def forget_combined() -> None:
    """Clear the cache of `any_fails`, and so free the arrays that its results depend on."""
    _combined.clear()
