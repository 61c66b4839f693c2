"""Mixed precision: which ops `gradient.amp.autocast` computes in 16 bits, and which in float32.

Products are fast in 16 bits and lose little; softmax, norms, losses, sums and powers sum what is
small or large and stay in float32. All others take their inputs as they come; float64 is left
alone. The lists are PyTorch's, which has a shorter one for the CPU
(`..._on_gpu` is of the longer alone). Outside autocast the wrappers cost one
comparison. They go around ops, and around functions that are composed of some.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable
from gradient.dtypes import HALF_PRECISION, DType, float32

P = ParamSpec("P")
R = TypeVar("R")
Cast = Callable[[Sequence[Any]], Sequence[Any]]


def lower_precision(call: Callable[P, R]) -> Callable[P, R]:
    """An op that autocast gives its inputs in its 16-bit dtype."""

    def cast(inputs: Sequence[Any]) -> Sequence[Any]:
        dtype = _dtype_for(inputs)
        casts = HALF_PRECISION | {float32.numpy}
        return inputs if dtype is None else _cast(inputs, casts, dtype.numpy)

    return _wrapper(call, cast)


def float32_precision(call: Callable[P, R]) -> Callable[P, R]:
    """An op that autocast gives its 16-bit inputs in float32."""

    def cast(inputs: Sequence[Any]) -> Sequence[Any]:
        return (
            inputs if _dtype_for(inputs) is None else _cast(inputs, HALF_PRECISION, float32.numpy)
        )

    return _wrapper(call, cast)


def float32_precision_on_gpu(call: Callable[P, R]) -> Callable[P, R]:
    """An op that autocast gives its 16-bit inputs in float32, but on the CPU as they come."""

    def cast(inputs: Sequence[Any]) -> Sequence[Any]:
        dtype = _dtype_for(inputs, but="cpu")
        return inputs if dtype is None else _cast(inputs, HALF_PRECISION, float32.numpy)

    return _wrapper(call, cast)


def widest_precision_on_gpu(call: Callable[P, R]) -> Callable[P, R]:
    """An op that autocast gives all inputs in float32 where one of them is, but on the CPU."""

    def cast(inputs: Sequence[Any]) -> Sequence[Any]:
        wide = any(isinstance(x, Variable) and x.array.dtype == float32.numpy for x in inputs)
        if not wide or _dtype_for(inputs, but="cpu") is None:
            return inputs
        return _cast(inputs, HALF_PRECISION, float32.numpy)

    return _wrapper(call, cast)


def autocast_as(method: Any, function: Any) -> Any:
    """Another function, with the precision of a method that may have one of the wrappers."""
    while method is not None:
        if (cast := vars(method).get("autocast")) is not None:
            return _wrapper(function, cast)
        method = getattr(method, "__wrapped__", None)
    return function


def _wrapper(call: Any, cast: Cast) -> Any:
    op, run = getattr(call, "op", None), _of_any
    if op is not None and not (op.has_options or op.variadic):
        run = _OF.get(len(op.inputs), _of_any)
    wrapped: Any = functools.update_wrapper(run(call, cast), call)
    wrapped.autocast = cast
    return wrapped


def _of_one(call: Any, cast: Cast) -> Any:
    def run_one(a: Any, /) -> Any:  # these two are cheaper to call; a small matmul notices
        if mode.autocast is not None:
            (a,) = cast((a,))
        return call(a)

    return run_one


def _of_two(call: Any, cast: Cast) -> Any:
    def run_two(a: Any, b: Any, /) -> Any:
        if mode.autocast is not None:
            a, b = cast((a, b))
        return call(a, b)

    return run_two


def _of_any(call: Any, cast: Cast) -> Any:
    def run(*inputs: Any, **options: Any) -> Any:
        if mode.autocast is None:
            return call(*inputs, **options)
        given = cast((*inputs, *options.values()))
        inputs, last = tuple(given[: len(inputs)]), given[len(inputs) :]
        before, mode.autocast = mode.autocast, None  # what it is composed of takes them so
        try:
            return call(*inputs, **dict(zip(options, last, strict=True)))
        finally:
            mode.autocast = before

    return run


_OF = {1: _of_one, 2: _of_two}


def _dtype_for(inputs: Sequence[Any], but: str | None = None) -> DType | None:
    """The dtype that autocast has for the inputs' device; None if it is off there, and for one type
    of device."""
    like = next((x for x in inputs if isinstance(x, Variable)), None)
    kind = None if like is None else like.backend.device.partition(":")[0]
    return None if kind is None or kind == but else (mode.autocast or {}).get(kind)


def _cast(inputs: Sequence[Any], sources: Container[Any], target: np.dtype) -> tuple[Any, ...]:
    from gradient.ops.elementwise import astype  # whose ops are wrapped here

    return tuple(
        astype(x, dtype=target)
        if isinstance(x, Variable) and x.array.dtype in sources and x.array.dtype != target
        else x
        for x in inputs
    )
