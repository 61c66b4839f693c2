"""Remove calls without effect."""

from __future__ import annotations

from gradient.plan.plan import Plan

__all__ = ["without_dead_calls"]


def without_dead_calls(plan: Plan) -> Plan:
    """Remove the calls on which neither an output nor memory from before the plan depends.

    A check, which has neither results nor writes, is kept: it may raise.
    """
    live = {plan.root(ref) for ref in plan.outputs}
    kept = []
    for call in reversed(plan.calls):
        made = {*map(plan.root, call.outputs), *call.writes}
        lasting = any(plan.buffers[root].kind != "internal" for root in call.writes)
        if made and not lasting and not made & live:
            continue
        live |= made | {plan.root(ref) for ref in call.inputs}
        kept.append(call)
    return plan.with_calls(kept[::-1])
