"""Checks that several functions share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from gradient import dtypes
from gradient.autograd.explain import error_of_caller
from gradient.autograd.out_argument import beyond_memory
from gradient.errors import DTypeError, TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.arguments import constant
from gradient.tensor.views import with_bases

Function = TypeVar("Function", bound=Callable[..., Any])


def composite(function: Function) -> Function:
    """Decorator of a function that is composed of ops: an error inside an op gets the function's
    name and arguments; an argument that should be a tensor is named."""
    parameters = inspect.signature(function).parameters.values()
    annotated = {p.name: str(p.annotation) for p in parameters}
    required = [name for name, kind in annotated.items() if kind == "Tensor"]
    optional = [name for name, kind in annotated.items() if kind == "Tensor | None"]

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            out = function(*args, **options)
        except Exception as error:
            given = dict(zip(annotated, args, strict=False)) | options
            for name in (*required, *optional):
                value = given.get(name)
                absent = name not in given or (value is None and name in optional)
                if not absent and not isinstance(value, Tensor):
                    expected = f"a Tensor as {name}"
                    got = type(value).__name__
                    raise TypeMismatch(sentence(function.__name__, expected, got)) from error
            ours = error_of_caller(function.__name__, dict.fromkeys(annotated) | given, error)
            if ours is None and not (ours := beyond_memory(function, args, options, error)):
                raise
            raise ours from error
        if type(out) is Tensor:
            if out.view_info is not None:
                _forget_base(out, (*args, *options.values()))
        elif type(out) is tuple:
            for each in out:
                if isinstance(each, Tensor) and each.view_info is not None:
                    _forget_base(each, (*args, *options.values()))
        return out

    return cast("Function", call)


def tried_first(common: Callable[..., Any]) -> Callable[[Function], Function]:
    """Decorator: call `common`, which handles the usual calls, first. If it returns None or raises
    an error, call the function, which handles all calls and explains errors."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            try:
                out = common(*args, **options)
            except Exception:
                out = None
            return function(*args, **options) if out is None else out

        return cast("Function", call)

    return decorate


def _forget_base(out: Tensor, given: tuple[Any, ...]) -> None:
    """Remove the view relation of `out` unless its base is one of the arguments: nobody can
    reach another base."""
    *_, owner = with_bases(out)
    for value in given:
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, Tensor) and any(shared is owner for shared in with_bases(each)):
                return
    out.view_info = None


def rounded_once(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)`; of 16 bits, computed in float32 and rounded once, at the end."""
    dtype = inputs[0].dtype
    if dtype not in dtypes.HALF_PRECISION:
        return function(*inputs)
    return function(*(x.float() for x in inputs)).to(dtype)


def floats(op: str, input: Tensor) -> Tensor:
    """The input of a function that takes floating-point dtypes alone."""
    if not input.dtype.is_floating_point:
        raise DTypeError(sentence(op, "a floating-point dtype", input.dtype, "cast with .float()"))
    return input


def numbers(op: str, input: Tensor) -> Tensor:
    """The input of a function that takes all dtypes but bool."""
    if input.dtype == dtypes.bool_:
        raise DTypeError(sentence(op, "numbers", input.dtype, "cast with .to()"))
    return input


def one_dtype(op: str, input: Tensor, **others: Tensor | None) -> None:
    """Raise where a tensor has another dtype than the input."""
    for name, other in others.items():
        if other is not None and other.array.dtype != input.array.dtype:
            expected = f"{name} of the input's dtype {input.dtype}"
            raise DTypeError(sentence(op, expected, other.dtype, "cast one with .to()"))


def integers(op: str, name: str, value: Any, like: Tensor) -> Any:
    """The array of a tensor of integers."""
    array = constant(op, name, value, like)
    if value.dtype.is_floating_point or value.dtype == dtypes.bool_:
        raise DTypeError(sentence(op, f"integers (int64) as {name}", value.dtype))
    return array
