"""Choose among floats without casting them to wider ones first."""

from __future__ import annotations

from dataclasses import replace

from gradient.plan.calls import Call, Ref
from gradient.plan.passes.counts import writes_of
from gradient.plan.plan import Plan

__all__ = ["without_widening"]

CHOICES = ("argmax", "argmin", "likeliest")
"""Calls whose results depend only on the order of the numbers in their first array."""
WIDER = {"e": "fd", "E": "fd", "f": "d"}
"""{character of a float dtype: those of the wider dtypes, which have all of its numbers}."""


def without_widening(plan: Plan) -> Plan:
    """Let choices read floats as they were before a cast to wider ones, which changes neither their
    order nor which are equal."""
    written = writes_of(plan)
    narrow: dict[Ref, Ref] = {}

    def widened(call: Call) -> Ref | None:
        """The array that a call casts to a wider dtype; None for other calls."""
        if call.op != "astype" or not isinstance(call.out, Ref):
            return None
        x = call.args[0]
        given, made = plan.buffers[x], plan.buffers[call.out]
        if written[given.root] or written[made.root]:
            return None
        return x if made.dtype.char in WIDER.get(given.dtype.char, "") else None

    calls = []
    for call in plan.calls:
        x = widened(call)
        if x is not None:
            narrow[call.out] = x
        elif call.op in CHOICES and not call.pieces and call.args[0] in narrow:
            call = replace(call, args=(narrow[call.args[0]], *call.args[1:]))
        calls.append(call)
    return plan.with_calls(calls)
