"""Numbers that are known only when a graph runs, not when it is made."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

Numbers = Mapping[str, float | int]


class Number:
    """A named number, or a result of Python's arithmetic with such numbers.

    `value` is the value when the graph was made. The class is not a float, so that its operators
    are called; functions of `math` cannot take it.
    """

    __slots__ = ("compute", "value")

    def __init__(self, compute: Callable[[Numbers], Any], value: float | int):
        self.compute, self.value = compute, value

    @classmethod
    def named(cls, name: str, value: float | int) -> Number:
        return cls(lambda numbers: numbers[name], value)

    def __repr__(self) -> str:
        return f"<a number of each run, {self.value} at first>"


def value_of(x: Any) -> Any:
    """The value that a number had when the graph was made."""
    return x.value if isinstance(x, Number) else x


def kind_of(x: Any) -> type[Any]:
    return type(x.value) if type(x) is Number else type(x)


def _operator(function: Callable[[Any, Any], Any], reflected: bool) -> Callable[..., Any]:
    def method(self: Number, other: Any) -> Any:
        if not isinstance(other, (bool, int, float, Number)):
            return NotImplemented  # the array's operator handles it

        def compute(numbers: Numbers) -> Any:
            a = self.compute(numbers)
            b = other.compute(numbers) if isinstance(other, Number) else other
            return function(b, a) if reflected else function(a, b)

        a, b = self.value, value_of(other)
        return Number(compute, function(b, a) if reflected else function(a, b))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor",
              "lshift", "rshift"):  # fmt: skip
    _function = getattr(operator, _name)
    setattr(Number, f"__{_name.strip('_')}__", _operator(_function, False))
    setattr(Number, f"__r{_name.strip('_')}__", _operator(_function, True))
setattr(Number, "__neg__", lambda self: 0 - self)  # noqa: B010 (as those above)
