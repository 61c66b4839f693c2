"""Operands of other classes, such as sparse matrices, which may define the operation.

They are asked only after a call has failed, so calls with tensors alone cost nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from gradient.autograd.variable import Variable

EXCHANGED = {"__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__"}


def reflected(operator: Callable[[Any, Any], Any] | None) -> str:
    """Return the name of the reflected method, such as `__radd__`, which Python calls on the right
    operand if the left one returns NotImplemented."""
    name = "" if operator is None else operator.__name__.strip("_")
    return EXCHANGED.get(f"__{name}__", f"__r{name}__")


def _unasked(name: str, left: Any, right: Any) -> Any:
    return NotImplemented


by_protocol: Callable[[str, Any, Any], Any] = _unasked
"""What the `__torch_function__` of an operand returns; `tensor.overriding` sets it."""


def by_operand(name: str, method: str, left: Any, right: Any) -> Any:
    """Return the result of the right operand's method, or of the `__torch_function__` of either;
    NotImplemented if their classes have none.

    Numbers, arrays and Python's containers have such methods too; theirs are not called.

    Args:
        name: the operation's name.
        method: the reflected method, such as "__radd__".
    """
    for each in (left, right):
        if hasattr(type(each), "__torch_function__") and not isinstance(each, Variable):
            return by_protocol(name, left, right)
    kind = type(right)
    if isinstance(right, Variable) or kind.__module__ == "builtins" or hasattr(kind, "__array__"):
        return NotImplemented
    found = getattr(kind, method, None)
    return NotImplemented if found is None else found(right, left)


class Operand:
    """Base class of values with their own versions of tensor functions: `functions` maps a
    function's name to its version."""

    functions: ClassVar[dict[str, Callable[..., Any]]] = {}


def by_argument(name: str, args: Sequence[Any]) -> Callable[..., Any] | None:
    """Return the function `name` of the first `Operand` among the arguments or in a list of them;
    None if there is none."""
    for argument in args:
        for each in argument if type(argument) in (list, tuple) else (argument,):
            if isinstance(each, Operand) and name in each.functions:
                return each.functions[name]
    return None
