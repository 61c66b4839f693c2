"""PyTorch's `out=`, `layout=` and `pin_memory=`, for functions without them.

They are handled only after a call has failed because of an unknown keyword. So calls without them
cost nothing more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable
from gradient.errors import (
    ArgumentError,
    AutogradError,
    DeviceError,
    GradientError,
    TypeMismatch,
    sentence,
)
from gradient.source_lines import warn_user

Function = TypeVar("Function", bound=Callable[..., Any])

ASKED_TOO_MUCH = MemoryError, ValueError, OverflowError
"""NumPy's exceptions for an array larger than the free memory, or than any memory."""

LAYOUTS = frozenset(("layout", "pin_memory"))
"""Keywords of creation ops that have no effect: tensors are strided, and only `Tensor.pin_memory`
pins memory."""


def beyond_memory(
    function: Any, args: tuple[Any, ...], named: Mapping[str, Any], error: Exception
) -> GradientError | None:
    """Return the error for a call that needed more memory than there is or can be; None for other
    failures."""
    if isinstance(error, GradientError) or not isinstance(error, ASKED_TOO_MUCH):
        return None
    from gradient.autograd.out_of_memory import beyond_memory as explained  # rarely needed

    return explained(function.__name__, function, args, named, error)


def result_or_out(
    result: Any, named: Mapping[str, Any], caller: str, args: tuple[Any, ...] = ()
) -> Any:
    """Return the result of a call; if the call's keywords have an `out`, copy it there and return
    `out`. `args` are the call's other arguments, in any order after the first."""
    out = named.get("out")
    if out is None:
        return result
    given = named.get("dtype") is not None
    operands = (*args, *(value for name, value in named.items() if name != "out"))
    if not isinstance(result, tuple):
        return _copied_to(out, result, caller, operands, given=given)
    if not isinstance(out, (tuple, list)) or len(out) != len(result):
        raise TypeMismatch(sentence(caller, f"out, a tuple of {len(result)} Tensors", repr(out)))
    written = [
        _copied_to(*pair, caller, operands, one_of_several=True, given=given)
        for pair in zip(out, result, strict=True)
    ]
    return type(result)(*written) if hasattr(result, "_fields") else tuple(written)


def _copied_to(
    out: Any,
    result: Any,
    caller: str,
    operands: tuple[Any, ...],
    *,
    one_of_several: bool = False,
    given: bool = False,
) -> Any:
    """Copy `result` to `out`, resizing `out` to its shape, and return `out`."""
    if not issubclass(type(out), Variable):  # not isinstance: type checkers must keep `Any`
        raise TypeMismatch(sentence(caller, "a Tensor as out", type(out).__name__))
    if result.requires_grad or (out.requires_grad and mode.grad):
        raise AutogradError(
            f"{caller}: with out= there is no gradient, but an argument requires one; leave out= "
            "away, detach() what requires a gradient, or call it under no_grad()"
        )
    if out.backend is not result.backend:
        device = result.backend.device
        raise DeviceError(sentence(caller, f"out on {device}", out.backend.device))
    if result.dtype != out.dtype:
        from gradient.dtypes.of_out import check  # rarely needed

        check(
            caller,
            result.dtype,
            out.dtype,
            operands,
            one_of_several=one_of_several,
            given=given,
        )
    if out.array.shape == result.array.shape:
        return out.copy_(result)
    if 0 not in out.array.shape:
        warn_user(
            f"{caller}: out of shape {tuple(out.array.shape)} was resized to "
            f"{tuple(result.array.shape)}; give one of that shape, or out.resize_(0) first"
        )
    out.data = result.detach().clone().to(out.dtype)
    return out


def takes_out(function: Function, name: str = "") -> Function:
    """Decorate a function to accept `out=`.

    Args:
        name: the function's name in errors, if it is not the function's own.
    """
    return _accepting(function, frozenset(("out",)), name)


def creation_op(function: Function) -> Function:
    """Decorate a creation op, such as `zeros`, to accept the keywords of `LAYOUTS`, and `out=`,
    which then sets the dtype and the device."""
    return _accepting(function, LAYOUTS | {"out"})


def creation_op_like(function: Function) -> Function:
    """Decorate a creation op, such as `zeros_like`, to accept the keywords of `LAYOUTS`."""
    return _accepting(function, LAYOUTS)


def _accepting(function: Any, others: frozenset[str], name: str = "") -> Any:
    caller = name or function.__name__

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named) if named else function(*args)
        except TypeError:
            if others.isdisjoint(named):
                raise
        except ASKED_TOO_MUCH as error:
            if ours := beyond_memory(function, args, named, error):
                raise ours from error
            raise
        if (layout := named.get("layout")) is not None and str(layout)[-8:] != ".strided":
            fix = "sparse tensors are made by x.to_sparse() and sparse_coo_tensor"
            raise TypeMismatch(sentence(caller, "layout gradient.strided", repr(layout), fix))
        kept = {name: value for name, value in named.items() if name not in others}
        known = inspect.signature(function).parameters if "pin_memory" in others else ()
        like_out = [name for name in ("dtype", "device") if name in known]
        if (out := named.get("out")) is not None and like_out:
            if not isinstance(out, Variable):
                raise TypeMismatch(sentence(caller, "a Tensor as out", repr(out)))
            for key in like_out:
                if kept.setdefault(key, getattr(out, key)) != getattr(out, key):
                    expected = f"{key} as out has it, {getattr(out, key)}"
                    raise ArgumentError(sentence(caller, expected, kept[key]))
        return result_or_out(function(*args, **kept), named, caller, args)

    return call
