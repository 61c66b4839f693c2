"""Calls of a plan as methods of a backend, whole: for backends that choose their kernels alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.backends.options import SlotMap
from gradient.backends.recording_backend import OPERATORS
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
    """Have the backend do a call, given what its buffers and numbers are; its results go into
    `made`."""
    if call.op == BOUNDARY:
        return

    def shared(x: SlotMap) -> SlotMap:
        arrays = id(x.positions), id(x.table), id(x.start)
        layout = x._replace(positions=None, table=None, start=None, masks={})
        return x._replace(masks=masks.setdefault((arrays, repr(layout)), {}))

    # Masks that were made in a call are no arguments of it.
    given = mapped((call.args, call.options), SlotMap, lambda x: x._replace(masks={}))
    given = mapped(mapped(given, Ref, array), HostNumber, number)
    args, options = mapped(given, SlotMap, shared)
    result = (OPERATORS.get(call.op) or getattr(backend, call.op))(*args, **options)
    _keep(call.out, result, made)  # of what only writes, nothing


def _keep(out: Any, result: Any, made: dict[Ref, Any]) -> None:
    """Put the arrays of a result in their places."""
    if isinstance(out, Ref):
        made[out] = result
    elif isinstance(out, (tuple, list)):
        for part, value in zip(out, result, strict=True):
            _keep(part, value, made)
