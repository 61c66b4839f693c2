"""Turn an array library's exception into ours: the op, its inputs, what is wrong."""

from __future__ import annotations

import re
import sys
from typing import Any

from gradient.autograd.variable import Variable
from gradient.dtypes import PackedDType
from gradient.errors import (
    BackendError,
    DeviceError,
    DTypeError,
    GradientError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
)

#: NumPy's and CuPy's words for a matrix product whose factors do not fit.
_PRODUCT = re.compile(r"core dimension .*\(size (\d+) is different from (\d+)\)")

MOST = 8  # inputs that a message lists

#: The first and last inputs that may be packed, by op.
TAKES_PACKED = {"linear": (1, 1), "embedding": (0, 0), "grouped_linear": (1, sys.maxsize)}


def explain(op: Any, inputs: tuple[Any, ...], error: Exception) -> Exception:
    """The exception to raise for `error`, which `op` met on `inputs`. Costs nothing until then."""
    tensors = [t for t in inputs if isinstance(t, Variable)]
    first, last = TAKES_PACKED.get(op.name, (0, -1))
    for at, value in enumerate(inputs):
        packed = isinstance(value, Variable) and isinstance(value.array.dtype, PackedDType)
        if packed and not first <= at <= last:
            return packed_refused(op.name, value.array)
    if isinstance(error, GradientError):
        raise error
    names = (
        op.inputs if len(op.inputs) >= len(inputs) else [f"input {i}" for i in range(len(inputs))]
    )
    for name, value in zip(names, inputs, strict=False):
        bad = value is not None and not isinstance(value, (Variable, bool, int, float))
        if bad or (not tensors and value is not None):
            return TypeMismatch(
                f"{op.name}(): argument {name!r} must be a Tensor, got {type(value).__name__}"
            )
    devices = {t.backend.device for t in tensors}
    if len(devices) > 1:
        return DeviceError(
            f"{op.name}: expected all tensors on one device, got {' and '.join(sorted(devices))}; "
            "move one with .to()"
        )
    listed = ", ".join(
        f"{name} {describe(value)}" for name, value in zip(names, inputs[:MOST], strict=False)
    )
    if len(inputs) > MOST:
        listed += f" and {len(inputs) - MOST} more"
    if isinstance(error, TypeError) and first_line(error).startswith(("ufunc", "numpy boolean")):
        return DTypeError(f"{op.name}: not defined for these dtypes ({listed}); cast with .to()")
    message = f"{op.name}: {reason(error)} ({listed})"
    for kinds, ours in (
        ((IndexError,), IndexOutOfRange),
        ((ValueError,), ShapeError),
        ((TypeError, AttributeError, OverflowError), TypeMismatch),
    ):
        if isinstance(error, kinds):
            return ours(message)
    return BackendError(message)


def packed_refused(op: str, array: Any) -> DTypeError:
    """The error of an op that does not take a packed tensor."""
    return DTypeError(
        f"{op}: not defined for packed tensors, got {array.dtype.name} {tuple(array.shape)}; "
        "dequantize() it first (linear, embedding and grouped_linear take packed weights as they "
        "are)"
    )


def describe(value: Any) -> str:
    """`(2, 3) float32` of a tensor, the value itself of anything else."""
    if isinstance(value, Variable):
        return f"{tuple(value.array.shape)} {value.array.dtype}"
    return repr(value)


def reason(error: Exception) -> str:
    """What is wrong, without the vocabulary of the array library's own machinery."""
    line = first_line(error)
    if sizes := _PRODUCT.search(line):
        return f"the dimensions to be summed over differ, {sizes[2]} and {sizes[1]}"
    return line.partition(" with remapped shapes")[0]


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
