"""Mixed precision: which ops `gradient.amp.autocast` computes in 16 bits, and which in float32.

Products are fast in 16 bits and lose little; softmax, norms and losses sum what is small or large
and stay in float32. All others take their inputs as they come; float64 is left alone. So does
PyTorch. Outside autocast the wrappers cost one comparison.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

from gradient.autograd.modes import mode
from gradient.autograd.op import op_of
from gradient.autograd.variable import Variable
from gradient.dtypes import HALF_PRECISION, DType, float32
from gradient.ops import elementwise

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


def _wrapper(call: Any, cast: Cast) -> Any:
    if len(op_of(call).inputs) == 2 and not op_of(call).has_options:

        def run_two(a: Any, b: Any, /) -> Any:  # cheaper to call; a small matmul notices
            if mode.autocast is not None:
                a, b = cast((a, b))
            return call(a, b)

        return functools.update_wrapper(run_two, call)

    def run(*inputs: Any, **options: Any) -> Any:
        if mode.autocast is not None:
            inputs = tuple(cast(inputs))
        return call(*inputs, **options)

    return functools.update_wrapper(run, call)


def _dtype_for(inputs: Sequence[Any]) -> DType | None:
    """The dtype that autocast has for the inputs' device; None if it is off there."""
    like = next(x for x in inputs if isinstance(x, Variable))
    return (mode.autocast or {}).get(like.backend.device.partition(":")[0])


def _cast(inputs: Sequence[Any], sources: Container[Any], target: np.dtype) -> tuple[Any, ...]:
    return tuple(
        elementwise.astype(x, dtype=target)
        if isinstance(x, Variable) and x.array.dtype in sources and x.array.dtype != target
        else x
        for x in inputs
    )
