"""Calls whose results are the same in every replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradient import backends
from gradient.backends.recording_backend import OPERATORS
from gradient.plan.calls import Call, Ref, leaves, mapped
from gradient.plan.passes.counts import writes_of
from gradient.plan.plan import Plan

__all__ = ["with_folded_constants"]

LIMIT = 1 << 16
"""The maximum bytes of the results of a call that is folded: larger ones, which eager execution
makes anew and frees, would take memory all the time."""

CREATIONS = ("arange", "full", "ones", "zeros")
"""Methods whose result depends on their arguments alone, which may be only numbers."""


def with_folded_constants(plan: Plan, limit: int = LIMIT) -> Plan:
    """Compute now the results that depend only on constants and are not written to."""
    written = writes_of(plan)
    buffers = list(plan.buffers)
    kept = []

    def constant(ref: Ref) -> bool:
        return buffers[ref].kind == "constant" and not written[plan.root(ref)]

    for call in plan.calls:
        folds = (
            bool(call.outputs)
            and not call.writes
            and not call.numbers
            and (call.op in CREATIONS if not call.inputs else all(map(constant, call.inputs)))
            and not any(written[plan.root(ref)] for ref in call.outputs)
            and sum(buffers[ref].nbytes for ref in call.outputs) <= limit
        )
        if not folds:
            kept.append(call)
            continue
        args, options = mapped((call.args, call.options), Ref, lambda ref: buffers[ref].array)
        for ref, array in _results(call, _method(call.op)(*args, **options)):
            buffers[ref] = replace(buffers[ref], kind="constant", root=ref, array=array)
    return replace(plan, buffers=tuple(buffers), calls=tuple(kept))


def _method(op: str) -> Any:
    return OPERATORS.get(op) or getattr(backends.get("cpu"), op)


def _results(call: Call, result: Any) -> list[tuple[Ref, np.ndarray]]:
    arrays = [np.asarray(x) for x in leaves(result, (np.ndarray, np.generic))]
    return list(zip(call.outputs, arrays, strict=True))
