"""Calls of a plan by a backend's methods, not split: for backends that choose their kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.backends.options import SlotMap
from gradient.backends.recording_backend import AUGMENTED, OPERATORS
from gradient.plan.calls import BOUNDARY, Call, HostNumber, Ref, mapped

Masks = dict[Any, dict[Any, Any]]
"""The masks that calls have made of positions, by the positions: later calls take them."""


def run_call(
    backend: Any,
    call: Call,
    array: Callable[[Ref], Any],
    number: Callable[[HostNumber], Any],
    masks: Masks,
    made: dict[Ref, Any],
) -> None:
    """Make a call on the backend, with the values of its buffers and numbers; store the results in
    `made`."""
    if call.op == BOUNDARY:
        return

    def shared(x: SlotMap) -> SlotMap:
        arrays = id(x.positions), id(x.table), id(x.start)
        layout = x._replace(positions=None, table=None, start=None, masks={})
        return x._replace(masks=masks.setdefault((arrays, repr(layout)), {}))

    # Masks made within a call are not among its arguments.
    given = mapped((call.args, call.options), SlotMap, lambda x: x._replace(masks={}))
    given = mapped(mapped(given, Ref, array), HostNumber, number)
    args, options = mapped(given, SlotMap, shared)
    function = OPERATORS.get(call.op) or AUGMENTED.get(call.op) or getattr(backend, call.op)
    result = function(*args, **options)
    _keep(call.out, result, made)  # none if the call only writes


def _keep(out: Any, result: Any, made: dict[Ref, Any]) -> None:
    """Store the arrays of a result by the numbers of their buffers."""
    if isinstance(out, Ref):
        made[out] = result
    elif isinstance(out, (tuple, list)):
        for part, value in zip(out, result, strict=True):
            _keep(part, value, made)
