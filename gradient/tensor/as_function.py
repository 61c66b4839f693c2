"""Methods of Tensor as functions, such as `gradient.exp`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from gradient.autograd.variable import Variable
from gradient.errors import TypeMismatch, copied, sentence


def methods(names: Mapping[str, Any]) -> Iterator[tuple[str, FunctionType]]:
    """Those of a namespace's functions whose first parameter is `self`."""
    for name, value in tuple(names.items()):
        if isinstance(value, FunctionType) and value.__code__.co_varnames[:1] == ("self",):
            yield name, value


def as_function(method: FunctionType) -> Callable[..., Any]:
    """The method as a function whose first parameter is `input`, not `self`."""
    code: CodeType = method.__code__

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple("input" if name == "self" else name for name in names)

    code = code.replace(
        co_varnames=renamed(code.co_varnames), co_cellvars=renamed(code.co_cellvars)
    )
    function = copied(method, method.__name__)
    function.__code__ = code
    function.__annotations__ = {"input": "Tensor", **method.__annotations__}

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except AttributeError as error:
            given = args[0] if args else options.get("input")
            if isinstance(given, Variable):
                raise
            got = type(given).__name__
            raise TypeMismatch(sentence(method.__name__, "a Tensor as input", got)) from error

    return call
