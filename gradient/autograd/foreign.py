"""Operands of other classes, such as sparse matrices, which may know what the result is.

Asked only where a call has failed: tensors among themselves pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from gradient.autograd.variable import Variable

EXCHANGED = {"__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__"}


def reflected(operator: Callable[[Any, Any], Any] | None) -> str:
    """The method that Python asks the right operand for, where the left one gives up."""
    name = "" if operator is None else operator.__name__
    return EXCHANGED.get(f"__{name}__", f"__r{name}__")


def by_operand(method: str, left: Any, right: Any) -> Any:
    """What the right operand's own class makes of two operands; NotImplemented if nothing.

    Numbers, arrays and Python's containers have such methods, too, and are not asked.
    """
    kind = type(right)
    if isinstance(right, Variable) or kind.__module__ == "builtins" or hasattr(kind, "__array__"):
        return NotImplemented
    found = getattr(kind, method, None)
    return NotImplemented if found is None else found(right, left)


class Operand:
    """A class of values that functions of tensors take: `functions` has its own, by their names."""

    functions: ClassVar[dict[str, Callable[..., Any]]] = {}


def by_argument(name: str, args: Sequence[Any]) -> Callable[..., Any] | None:
    """The function of that name which an `Operand` has, an argument or in a list of them."""
    for argument in args:
        for each in argument if type(argument) in (list, tuple) else (argument,):
            if isinstance(each, Operand) and name in each.functions:
                return each.functions[name]
    return None
