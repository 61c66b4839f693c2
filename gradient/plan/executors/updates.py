"""Optimiser steps as tasks, whose numbers are computed before each run, and the norm and scaling of
gradients before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.numpy import optimizers
from gradient.plan.calls import Call, HostNumber, mapped
from gradient.plan.executors.program import Step, early, task

Numbers = Callable[[Any], tuple[float, ...]]


def lower(call: Call, args: Any, out: Any, now: Callable[[Any], Any]) -> list[Step] | None:
    """The tasks of a call that updates arrays in place, or of a norm; None for other calls, or if a
    kernel does not take all arrays. `now` returns a call's options with the numbers of this run."""
    if call.options or call.op not in _BY_OP:
        return None
    return _BY_OP[call.op](args, out, now)


def _total_norm(args: Any, out: Any, now: Any) -> list[Step] | None:
    (arrays,) = args
    if not optimizers.takes_norm(arrays):
        return None
    return [(task, launch) for launch in optimizers.norm_launches(arrays, out)]


def _foreach_mul(args: Any, out: Any, now: Any) -> list[Step] | None:
    arrays, factor = args
    groups, rest = optimizers.with_kernel(arrays)
    if rest or any(x.dtype != factor.dtype for x in arrays):
        return None
    by = {factor.dtype: factor.reshape(1)}
    return [(task, launch) for launch in optimizers.launches("scale", groups, by)]


def _adamw(args: Any, out: Any, now: Any) -> list[Step] | None:
    lists, options, rest = list(args[:4]), args[4], args[5:]
    return _steps("adamw", lists, optimizers.adamw_numbers, options, rest, now)


def _sgd(args: Any, out: Any, now: Any) -> list[Step] | None:
    params, grads, buffers, options, *rest = args
    recorded = _recorded(options)
    if not recorded.momentum:
        return _steps("sgd", [params, grads], optimizers.sgd_numbers, options, rest, now)
    lists, flags = [params, grads, buffers], (recorded.nesterov, recorded.first)
    return _steps("sgd_momentum", lists, optimizers.sgd_numbers, options, rest, now, flags)


def _rmsprop(args: Any, out: Any, now: Any) -> list[Step] | None:
    params, grads, squares, buffers, means, options, *rest = args
    name = "rmsprop" if buffers is None else "rmsprop_momentum"
    lists = [x for x in (params, grads, squares, buffers) if x is not None]
    return _steps(name, lists, optimizers.rmsprop_numbers, options, (means, *rest), now)


def _lion(args: Any, out: Any, now: Any) -> list[Step] | None:
    lists, options, rest = list(args[:3]), args[3], args[4:]
    return _steps("lion", lists, optimizers.lion_numbers, options, rest, now)


def _steps(
    name: str,
    lists: list[list[np.ndarray]],
    numbers_of: Numbers,
    options: Any,
    rest: Any,
    now: Callable[[Any], Any],
    flags: tuple[bool, ...] = (),
) -> list[Step] | None:
    """A kernel for each parameter; None if no kernel takes one of them, or the method has further
    arguments (`rest`)."""
    groups, others = optimizers.with_kernel(*lists)
    if others or any(x is not None for x in rest):
        return None
    first = numbers_of(_recorded(options))
    # A row for each parameter, so that tasks share no array and may run concurrently.
    tables = {p.dtype: np.tile(np.array(first, p.dtype), (len(groups), 1)) for p, *_ in groups}
    steps: list[Step] = []
    for row, group in enumerate(groups):
        own = {dtype: table[row] for dtype, table in tables.items()}
        steps += [(task, each) for each in optimizers.launches(name, [group], own, flags)]

    def update_numbers() -> None:
        numbers = numbers_of(now(options))
        for table in tables.values():
            table[:] = numbers

    return [(early, (update_numbers,)), *steps]


def _recorded(options: Any) -> Any:
    """Options with the recorded values of host numbers."""
    return mapped(options, HostNumber, lambda number: number.value)


_BY_OP: dict[str, Callable[[Any, Any, Any], list[Step] | None]] = {
    "total_norm": _total_norm,
    "foreach_mul": _foreach_mul,
    "adamw_step": _adamw,
    "sgd_step": _sgd,
    "rmsprop_step": _rmsprop,
    "lion_step": _lion,
}
