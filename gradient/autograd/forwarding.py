"""Functions and methods that also take NumPy's argument names: `x.sum(axis=0, keepdims=True)`.

PyTorch takes these names beside its own. Python binds keywords before it enters a function, so
this needs a wrapper: it has the same parameters and passes them on by position. It looks at other
keywords only if the call fails. `out=` is handled in the same way.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, TypeVar

from gradient.autograd.explain import error_of_caller
from gradient.autograd.foreign import by_argument
from gradient.autograd.out_argument import beyond_memory, result_or_out
from gradient.autograd.variable import Variable
from gradient.errors import TypeMismatch, sentence
from gradient.source_lines import location_of

getframe = sys._getframe

Function = TypeVar("Function", bound=Callable[..., Any])

NUMPY = {"axis": "dim", "keepdims": "keepdim", "a": "input", "x": "input", "x1": "input",
         "x2": "other"}  # fmt: skip
"""NumPy's argument names, with PyTorch's."""


class _Missing:
    """The class of the default value that marks an argument as not passed."""


MISSING = _Missing()


def unwrapped(function: Any) -> Any:
    """Return the function inside decorators. `inspect.unwrap` does the same, but takes ten times as
    long, because it checks for cycles."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def parameters(function: Any) -> tuple[str, ...]:
    """Return the names of a function's parameters."""
    code = unwrapped(function).__code__
    names: tuple[str, ...] = code.co_varnames
    return names[: code.co_argcount + code.co_kwonlyargcount]


def can_be_forwarded(function: Any) -> bool:
    """Whether all parameters have names, and there is a wrapper for their number. (An op's wrapper
    may have `**options` although the op has none.)"""
    if not isinstance(function, FunctionType):
        return False
    own: Any = unwrapped(function)
    code, made = own.__code__, getattr(own, "op", None)
    any_names = inspect.CO_VARARGS
    if made is None or made.has_options:
        any_names |= inspect.CO_VARKEYWORDS
    return code.co_argcount in BY_ARITY and not code.co_flags & any_names


def forwarded(function: Function) -> Function:
    """Decorator: accept NumPy's argument names too."""
    own: Any = unwrapped(function)
    n, defaults = own.__code__.co_argcount, own.__defaults__ or ()
    call: Any = (OPS if hasattr(own, "op") else BY_ARITY)[n](function)
    code = call.__code__
    names = own.__code__.co_varnames[:n] + code.co_varnames[n:]
    call.__code__ = code.replace(co_varnames=names)
    call.__defaults__ = (MISSING,) * (n - len(defaults)) + defaults
    for attribute in ("__module__", "__name__", "__qualname__"):
        setattr(call, attribute, getattr(function, attribute))
    for attribute in ("__doc__", "__annotations__"):
        setattr(call, attribute, getattr(own, attribute))
    call.__dict__.update(function.__dict__)
    call.__wrapped__ = function
    return call


def corrected(
    function: Any, args: tuple[Any, ...], named: dict[str, Any], error: Exception
) -> Callable[[], Any] | None:
    """Return a corrected call for one that failed: with the function's own argument names, or by an
    `Operand`'s version of the function. None if the names were right."""
    own, caller = unwrapped(function), function.__qualname__
    if other := by_argument(own.__name__, args):
        return partial(other, *(value for value in args if value is not MISSING), **named)
    names = parameters(own)
    given = {name: value for name, value in zip(names, args, strict=False) if value is not MISSING}
    if len(given) == len(args) and named.keys() <= set(names):
        if isinstance(error, AttributeError) and not isinstance(args[0], Variable):
            got = type(args[0]).__name__
            raise TypeMismatch(sentence(caller, f"a Tensor as {names[0]}", got)) from error
        if ours := error_of_caller(caller.rpartition(".")[2], dict.fromkeys(names) | given, error):
            raise ours from error
        if ours := beyond_memory(own, args, named, error):
            raise ours from error
        return None
    last = own.__defaults__ or ()
    defaults = dict(zip(names[len(args) - len(last) :], last, strict=False))
    for name, value in named.items():
        if name == "out":
            continue  # `result_or_out` handles it
        target = name if name in names else NUMPY.get(name, name)
        if target not in names:
            known = ", ".join(n for n in names if n != "self")
            raise TypeMismatch(sentence(caller, f"keywords among {known}", repr(name))) from None
        if target in given and not (target in defaults and given[target] is defaults[target]):
            raise TypeMismatch(sentence(caller, f"{target} once", f"{name}=, too")) from None
        given[target] = value
    if (out := named.get("out")) is not None and "dtype" in names and given.get("dtype") is None:
        from gradient.dtypes.of_out import computes_in_out  # rarely needed

        both = isinstance(args[0], Variable) and isinstance(out, Variable)
        if both and computes_in_out(own.__name__, args[0].dtype, out.dtype):
            given["dtype"] = out.dtype
    return partial(function, **given)


# One wrapper for each number of parameters: `*args` would cost several times as much -------------


def of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, **named: Any) -> Any:
        try:
            return function(a, **named) if named else function(a)
        except Exception as error:
            if (again := corrected(function, (a,), named, error)) is None:
                raise
        return result_or_out(again(), named, function.__name__, (a,))

    return call


def of_two(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, **named: Any) -> Any:
        try:
            return function(a, b, **named) if named else function(a, b)
        except Exception as error:
            if (again := corrected(function, (a, b), named, error)) is None:
                raise
        return result_or_out(again(), named, function.__name__, (a, b))

    return call


def of_three(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, c: Any, **named: Any) -> Any:
        try:
            return function(a, b, c, **named) if named else function(a, b, c)
        except Exception as error:
            if (again := corrected(function, (a, b, c), named, error)) is None:
                raise
        return result_or_out(again(), named, function.__name__, (a, b, c))

    return call


def of_four(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, c: Any, d: Any, **named: Any) -> Any:
        try:
            return function(a, b, c, d, **named) if named else function(a, b, c, d)
        except Exception as error:
            if (again := corrected(function, (a, b, c, d), named, error)) is None:
                raise
        return result_or_out(again(), named, function.__name__, (a, b, c, d))

    return call


def of_five(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, c: Any, d: Any, e: Any, **named: Any) -> Any:
        try:
            return function(a, b, c, d, e, **named) if named else function(a, b, c, d, e)
        except Exception as error:
            if (again := corrected(function, (a, b, c, d, e), named, error)) is None:
                raise
        return result_or_out(again(), named, function.__name__, (a, b, c, d, e))

    return call


def of_six(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, **named: Any) -> Any:
        try:
            return function(a, b, c, d, e, f, **named) if named else function(a, b, c, d, e, f)
        except Exception as error:
            if (again := corrected(function, (a, b, c, d, e, f), named, error)) is None:
                raise
        return result_or_out(again(), named, function.__name__, (a, b, c, d, e, f))

    return call


# For ops: they make the node of the result record the user's line instead of a line of this file.


def of_op_of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, **named: Any) -> Any:
        try:
            result = function(a, **named) if named else function(a)
        except Exception as error:
            if (again := corrected(function, (a,), named, error)) is None:
                raise
            result = result_or_out(again(), named, function.__name__, (a,))
        if isinstance(result, Variable) and result.node is not None:
            result.node.location = location_of(getframe(1))
        return result

    return call


def of_op_of_two(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, **named: Any) -> Any:
        try:
            result = function(a, b, **named) if named else function(a, b)
        except Exception as error:
            if (again := corrected(function, (a, b), named, error)) is None:
                raise
            result = result_or_out(again(), named, function.__name__, (a, b))
        if isinstance(result, Variable) and result.node is not None:
            result.node.location = location_of(getframe(1))
        return result

    return call


OPS = {1: of_op_of_one, 2: of_op_of_two}
BY_ARITY = {1: of_one, 2: of_two, 3: of_three, 4: of_four, 5: of_five, 6: of_six}
