"""Fused calls of arrays that no earlier call has written.

In a graph, a kernel may start before the previous one has ended. Then it waits, as it may read what
that one writes. Such a fused call reads its arrays, and computes, before it waits: in a decoding
step, the angles of positions while the token's embedding is looked up.
"""

from __future__ import annotations

from dataclasses import replace

from gradient.plan.calls import Ref
from gradient.plan.executors.fused import FUSED
from gradient.plan.plan import Plan

__all__ = ["with_early_reads"]


def with_early_reads(plan: Plan) -> Plan:
    """Mark the fused calls without reductions whose arrays were there before the plan, and are not
    written by earlier calls."""
    written: set[Ref] = set()
    calls = []
    for call in plan.calls:
        if call.op == FUSED and not call.options["expression"].ends:
            roots = {plan.root(ref) for ref in call.inputs}
            if not roots & written and all(plan.buffers[r].kind != "internal" for r in roots):
                call = replace(call, options={**call.options, "early_reads": True})
        written.update(call.writes)
        calls.append(call)
    return plan.with_calls(calls)
