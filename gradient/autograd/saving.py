"""The values that a node saves of a call: only those that its gradient rules use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

Saver = Callable[[Sequence[Any], Any, Any], tuple[Any, ...]]
"""(arrays, result, extras) -> the values that a node saves."""

GETTERS: dict[str, Callable[[Any], Callable[[Sequence[Any], Any, Any], Any]]] = {
    "input": lambda key: lambda arrays, y, extras: arrays[key],
    "varargs": lambda key: lambda arrays, y, extras: tuple(arrays[key:]),
    "out": lambda key: lambda arrays, y, extras: y,
    "shape": lambda key: lambda arrays, y, extras: shape_of(arrays[key]),
    "shapes": lambda key: lambda arrays, y, extras: shapes_of(arrays),
    "extra": lambda key: lambda arrays, y, extras: extras[key],
    "none": lambda key: lambda arrays, y, extras: None,
}


def saver(plan: Sequence[tuple[str, Any]]) -> Saver:
    """Return a function that saves the values of a plan (see `Op.plan`), with common cases
    unrolled."""
    values = [GETTERS[kind](key) for kind, key in plan]
    if not values:
        return lambda arrays, y, extras: ()
    if len(values) == 1:
        (first,) = values
        return lambda arrays, y, extras: (first(arrays, y, extras),)
    if len(values) == 2:
        (kind, i), (other, j) = plan
        if kind == other == "input":
            return lambda arrays, y, extras: (arrays[i], arrays[j])
        if (kind, other) == ("input", "none"):
            return lambda arrays, y, extras: (arrays[i], None)
        if (kind, other) == ("none", "input"):
            return lambda arrays, y, extras: (None, arrays[j])
        first, second = values
        return lambda arrays, y, extras: (first(arrays, y, extras), second(arrays, y, extras))
    inputs = [key for kind, key in plan if kind == "input"]
    named = [key for kind, key in plan if kind == "extra"]
    inputs_first = ["input"] * len(inputs) + ["extra"] * len(named)
    if inputs and len(named) > 1 and [kind for kind, _ in plan] == inputs_first:
        extra = itemgetter(*named)
        if len(inputs) == 1:
            (only,) = inputs
            return lambda arrays, y, extras: (arrays[only], *extra(extras))
        given = itemgetter(*inputs)
        return lambda arrays, y, extras: given(arrays) + extra(extras)
    return lambda arrays, y, extras: tuple([value(arrays, y, extras) for value in values])


def shapes_of(values: Sequence[Any]) -> list[tuple[int, ...]]:
    """Return `shape_of` for each value."""
    try:
        return list(map(_shape, values))
    except AttributeError:
        return list(map(shape_of, values))


_shape = attrgetter("shape")


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an array or a Python number."""
    return getattr(value, "shape", ())
