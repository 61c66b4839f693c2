"""A plan as plain data: lists, numbers and strings, which any process and language can read.

    ["plan", {"buffers": [[shape, dtype], ...], "inputs": [...], "outputs": [...], "calls": [...]}]

Each call is [op, arguments, options, result]. Numbers, strings, bools and None stand for
themselves; other values are lists that begin with their kind: ["ref", 3] is a buffer,
["number", name] a number sent with each run; then ["dtype", "float32"], ["slice", start, stop,
step], ["..."], ["list", ...], ["tuple", ...], and ["options", name, ...] for the named tuples of
`gradient.backends.options`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends import options as options_module
from gradient.dtypes import BY_NUMPY, dtype_of
from gradient.plan.calls import Call, HostNumber, Ref
from gradient.plan.errors import PlanError
from gradient.plan.plan import Plan


def encode(plan: Plan) -> list[Any]:
    """The message that describes a plan. Calls are not split: the reader has every method."""
    return [
        "plan",
        {
            "buffers": [[list(b.shape), BY_NUMPY[b.dtype].name] for b in plan.buffers],
            "inputs": list(map(int, plan.inputs)),
            "outputs": list(map(int, plan.outputs)),
            "calls": [_call(call) for call in plan.calls],
        },
    ]


def _call(call: Call) -> list[Any]:
    args = [_value(arg) for arg in call.args]
    options = {name: _value(value) for name, value in call.options.items()}
    return [call.op, args, options, _value(call.out)]


def _value(value: Any) -> Any:
    if isinstance(value, Ref):
        return ["ref", int(value)]
    if isinstance(value, HostNumber):
        return ["number", value.name]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.dtype):
        return ["dtype", BY_NUMPY[value].name]
    if isinstance(value, slice):
        return ["slice", value.start, value.stop, value.step]
    if value is Ellipsis:
        return ["..."]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ["options", type(value).__name__, *map(_value, value)]
    if isinstance(value, (tuple, list)):
        return [type(value).__name__, *map(_value, value)]
    raise PlanError(f"{type(value).__name__} cannot be sent to another process")


def decode(value: Any, arrays: dict[int, Any], numbers: Any) -> Any:
    """A value of a message, with arrays for buffers and values for numbers."""
    if not isinstance(value, list):
        return value
    kind, *rest = value
    if kind == "ref":
        return arrays[rest[0]]
    if kind == "number":
        return numbers[rest[0]]
    if kind == "dtype":
        dtype = dtype_of(rest[0])
        return dtype if dtype.is_packed else dtype.numpy
    if kind == "slice":
        return slice(*rest)
    if kind == "...":
        return Ellipsis
    parts = [decode(part, arrays, numbers) for part in rest[kind == "options" :]]
    if kind == "options":
        return getattr(options_module, rest[0])(*parts)
    return tuple(parts) if kind == "tuple" else parts
