"""Calls on small arrays as tasks: integers and indices, as in the router of a mixture of experts,
and single numbers, as for a mean or gradient clipping.

NumPy would compute each in a microsecond or two, but needs Python between two lists of tasks. The
kernels compute what NumPy does, without checking indices. So they take only indices that are within
bounds by construction: `topk` and `argsort` return positions on their axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.numpy import kernels, reductions
from gradient.plan.calls import Buffer, Call, Ref
from gradient.plan.executors.program import Step, task

FEW = 64
"""The maximum numbers in a row for a sort by insertion, and elements for other simple loops."""
SMALL = 1 << 14
"""The maximum elements of a small array."""
ARITHMETIC = ("add", "sub", "mul", "truediv", "maximum", "minimum")
SUMMED = 7
"""The maximum numbers along the last axis that NumPy adds one after the other."""


def index_bounds(calls: Sequence[Call], buffers: Sequence[Buffer]) -> dict[Ref, int]:
    """For each root of integers that lie, for any inputs of the plan, from 0 to below a bound: the
    bound."""
    found: dict[Ref, int] = {}
    written = {root for call in calls for root in call.writes}
    for call in calls:
        if len(call.outputs) != 1 or call.view or call.options or call.outputs[0] in written:
            continue
        (out,), given = call.outputs, call.args
        if call.op in ("topk", "argsort") and isinstance(given[0], Ref):
            axis = given[1] if call.op == "argsort" else given[2]
            found[out] = buffers[given[0]].shape[axis]
        elif call.op == "floordiv" and isinstance(given[0], Ref) and _positive(given[1]):
            bound = found.get(buffers[given[0]].root)
            if bound is not None:
                found[out] = (bound - 1) // given[1] + 1
    return found


def lower(call: Call, args: Any, out: Any, bound: Callable[[Any], int | None]) -> Any:
    """The tasks of a call on these arrays and the place of its result; None if no kernel is here
    for it. `bound` returns the bound of an argument's integers, or None."""
    lowering = _BY_OP.get(call.op)
    if lowering is None or call.options or call.numbers or not small_calls.are_repeated():
        return None
    return lowering(call, args, out, bound) if kernels.available() else None


def _positive(x: Any) -> bool:
    return type(x) is int and x > 0


def _small(*arrays: Any) -> bool:
    """Whether these are small arrays in row-major order."""
    return all(isinstance(x, np.ndarray) and x.flags.carray and 0 < x.size <= SMALL for x in arrays)


def _indices(x: Any) -> bool:
    return _small(x) and x.dtype == np.int64


def _family() -> Any:
    return kernels.load("small_arrays")


def _check_indices(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    below = bound(call.args[0])
    return [] if below is not None and below <= args[2] else None


def _argsort(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, axis = args
    if not (_indices(x) and _small(out) and axis % x.ndim == x.ndim - 1 and x.shape[-1] <= FEW):
        return None
    rows = x.reshape(-1, x.shape[-1])
    return [(task, (_family().sorting, len(rows), len(rows), rows, out.reshape(rows.shape)))]


def _topk(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, k, axis, largest = args
    if not (_small(x) and _indices(out) and x.dtype.char in "fd" and largest and 0 < k <= FEW):
        return None
    if axis % x.ndim != x.ndim - 1:
        return None
    rows, places = x.reshape(-1, x.shape[-1]), out.reshape(-1, k)
    best = np.empty(places.shape, x.dtype)
    return [(task, (kernels.load("selection").topk, len(rows), len(rows), rows, best, places))]


def _copy(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x = args[0]
    if len(args) > 1 or not (_indices(x) and _indices(out) and x.shape == out.shape):
        return None
    return [(task, (_family().copy, x.size, x.size, x.reshape(-1), out.reshape(-1)))]


def _floordiv(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, by = args
    if not (_indices(x) and _indices(out) and _positive(by) and x.shape == out.shape):
        return None
    flat = x.reshape(-1), by, out.reshape(-1)
    return [(task, (_family().floor_divide, x.size, x.size, *flat))]


def _take_along(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, index, axis = args
    if not (_small(x, out) and _indices(index) and x.ndim == index.ndim):
        return None
    below = bound(call.args[1])
    last = axis % x.ndim == x.ndim - 1 and x.shape[:-1] == index.shape[:-1]
    if not last or below is None or below > x.shape[-1]:
        return None
    bits, n = np.dtype(f"u{x.itemsize}"), math.prod(x.shape[:-1])
    rows = (each.reshape(n, -1) for each in (x.view(bits), index, out.view(bits)))
    return [(task, (_family().take_along, n, n, *rows))]


def _put_along(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, index, value, _, add = args
    if not (add and all(_indices(each) and each.ndim == 1 for each in (x, index, value))):
        return None
    below, n = bound(call.args[1]), index.size
    if below is None or below > x.size or n > value.size or np.may_share_memory(x, value):
        return None
    return [(task, (_family().add_at, n, n, x, index, value))]


def _getitem(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    """Rows at integer indices."""
    x, where = args
    if not (isinstance(where, tuple) and len(where) == 1 and _indices(where[0])):
        return None
    below = bound(call.args[1][0])
    if not _small(x, out) or x.ndim < 2 or below is None or below > len(x):
        return None
    bits, n = np.dtype(f"u{x.itemsize}"), where[0].size
    table = x.view(bits).reshape(len(x), -1)
    rows = where[0].reshape(-1), out.view(bits).reshape(n, -1)
    return [(task, (kernels.load("rows").gather, n, n, table, *rows))]


def _sum(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, axis = args[0], args[1] if len(args) > 1 else None
    if isinstance(axis, tuple) and len(axis) == 1:
        (axis,) = axis
    if not _small(x, out):
        return None
    if x.dtype.char == "?" and axis is None and out.dtype == np.int64:
        return [(task, (_family().count, 1, 1, x.reshape(-1), out.reshape(-1)))]
    if x.dtype.char not in "fd" or x.dtype != out.dtype:
        return None
    if reductions.takes(x, axis):
        return None
    if axis is None and x.size > SUMMED:
        return [(task, launch) for launch in reductions.launches(x, axis, out)]
    if axis is None:
        x, axis = x.reshape(-1), 0
    if type(axis) is not int or not -x.ndim <= axis < x.ndim:
        return None
    axis %= x.ndim
    before, n, after = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    if n > FEW:
        return [(task, launch) for launch in reductions.launches(x, axis, out)]
    if n > (SUMMED if after == 1 else FEW):
        return None
    places = x.reshape(before, n, after), out.reshape(before, after)
    return [(task, (_family().sums, before, before, *places))]


def _mean_of_counted(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, target, ignore_index = args
    if not (_indices(target) and _small(x, *out) and all(y.dtype == x.dtype for y in out)):
        return None
    total = np.empty((), x.dtype)
    summed = _sum(call, (x,), total, bound)
    if summed is None:
        return None
    flat = total.reshape(1), target.reshape(-1), ignore_index, *(y.reshape(1) for y in out)
    return [*summed, (task, (_family().mean_of_counted, 1, 1, *flat))]


def _arithmetic(name: str) -> Callable[..., list[Step] | None]:
    """Lower arithmetic on arrays of one dtype and one shape, or an array and a number."""

    def lowering(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
        if len(args) != 2 or not _small(out) or out.size > FEW or out.dtype.char not in "fd":
            return None
        operands = [np.array([x], out.dtype) if type(x) in (int, float) else x for x in args]
        if not all(_small(x) and x.dtype == out.dtype for x in operands):
            return None
        if not all(x.shape == out.shape or x.size == 1 for x in operands):
            return None
        flat = (x.reshape(-1) for x in (*operands, out))
        code = getattr(_family(), name.upper())
        return [(task, (_family().arithmetic, out.size, out.size, code, *flat))]

    return lowering


def _differ(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x, other = args
    if not (_indices(x) and _small(out) and type(other) is int and -(2**63) <= other < 2**63):
        return None
    flat = x.reshape(-1), other, out.reshape(-1)
    return [(task, (_family().differ, x.size, x.size, *flat))]


def _as_float(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x = args[0]
    if not (_indices(x) and _small(out) and out.dtype.char in "fd" and x.size <= FEW):
        return None
    return [(task, (_family().copy, x.size, x.size, x.reshape(-1), out.reshape(-1)))]


def _expand(call: Call, args: Any, out: Any, bound: Any) -> list[Step] | None:
    x = args[0]
    if not (_small(x, out) and x.size == 1 and x.dtype == out.dtype and x.dtype.char in "fd"):
        return None
    flat = x.reshape(-1), out.reshape(-1)
    return [(task, (_family().fill, out.size, out.size, *flat))]


_BY_OP: dict[str, Callable[..., list[Step] | None]] = {
    "check_indices": _check_indices,
    "topk": _topk,
    "argsort": _argsort,
    "copy": _copy,
    "floordiv": _floordiv,
    "take_along": _take_along,
    "put_along": _put_along,
    "getitem": _getitem,
    "sum": _sum,
    "mean_of_counted": _mean_of_counted,
    **{name: _arithmetic(name) for name in ARITHMETIC},
    "ne": _differ,
    "astype": _as_float,
    "expand": _expand,
}
