"""Where a result lies: `out=`, and keywords for which there is one choice here.

They are looked at when a call has failed for a name that the function has not, so that other calls
cost what they did.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable
from gradient.dtypes import can_cast
from gradient.errors import (
    ArgumentError,
    AutogradError,
    DeviceError,
    DTypeError,
    TypeMismatch,
    sentence,
)
from gradient.source_lines import warn_user

Function = TypeVar("Function", bound=Callable[..., Any])

LAYOUTS = frozenset(("layout", "memory_format", "pin_memory"))
"""Taken by what makes a tensor, without effect: tensors are strided and row-major, and only
`Tensor.pin_memory` pins."""


def placed(result: Any, named: Mapping[str, Any], caller: str) -> Any:
    """The result of a call, or `out` with its values if one is among the call's keywords."""
    out = named.get("out")
    if out is None:
        return result
    if not isinstance(result, tuple):
        return _written(out, result, caller)
    if not isinstance(out, (tuple, list)) or len(out) != len(result):
        raise TypeMismatch(sentence(caller, f"out, a tuple of {len(result)} Tensors", repr(out)))
    written = [_written(*pair, caller) for pair in zip(out, result, strict=True)]
    return type(result)(*written) if hasattr(result, "_fields") else tuple(written)


def _written(out: Any, result: Any, caller: str) -> Any:
    """`out` with the values of `result`, of whose shape it becomes."""
    if not issubclass(type(out), Variable):  # a check that keeps `Any`: Tensor is not known here
        raise TypeMismatch(sentence(caller, "a Tensor as out", type(out).__name__))
    if result.requires_grad or (out.requires_grad and mode.grad):
        raise AutogradError(
            f"{caller}: with out= there is no gradient, but an argument requires one; leave out= "
            "away, detach() what requires a gradient, or call it under no_grad()"
        )
    if out.backend is not result.backend:
        device = result.backend.device
        raise DeviceError(sentence(caller, f"out on {device}", out.backend.device))
    if not can_cast(result.dtype, out.dtype):
        expected = f"out of a dtype that {result.dtype} can be cast to"
        raise DTypeError(sentence(caller, expected, out.dtype))
    if out.array.shape == result.array.shape:
        return out.copy_(result)
    if 0 not in out.array.shape:
        warn_user(
            f"{caller}: out of shape {tuple(out.array.shape)} was resized to "
            f"{tuple(result.array.shape)}; give one of that shape, or out.resize_(0) first"
        )
    out.data = result.detach().clone().to(out.dtype)
    return out


def takes_out(function: Function) -> Function:
    """`function` behind one that takes `out=`, too."""
    return _behind(function, frozenset(("out",)))


def creates(function: Function) -> Function:
    """A function that makes a tensor, behind one that takes `out=` (whose dtype and device are
    then those meant) and words for layouts."""
    return _behind(function, LAYOUTS | {"out"})


def creates_like(function: Function) -> Function:
    """A function that makes a tensor like another, behind one that takes words for layouts."""
    return _behind(function, LAYOUTS)


def _behind(function: Any, others: frozenset[str]) -> Any:
    known = inspect.signature(function).parameters
    like_out = [name for name in ("dtype", "device") if name in known and "pin_memory" in others]

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except TypeError:
            if others.isdisjoint(named):
                raise
        kept = {name: value for name, value in named.items() if name not in others}
        if (out := named.get("out")) is not None and like_out:
            if not isinstance(out, Variable):
                raise TypeMismatch(sentence(function.__name__, "a Tensor as out", repr(out)))
            for name in like_out:
                if kept.setdefault(name, getattr(out, name)) != getattr(out, name):
                    expected = f"{name} as out has it, {getattr(out, name)}"
                    raise ArgumentError(sentence(function.__name__, expected, kept[name]))
        return placed(function(*args, **kept), named, function.__name__)

    return call
