"""Augmented assignment: one call instead of an operator and the write of its result.

    y = x + 1
    x[...] = y            x += 1

The results of the call are the same, bit for bit.
"""

from __future__ import annotations

from gradient.backends.recording_backend import AUGMENTED
from gradient.plan.calls import WHOLE, Call, Ref
from gradient.plan.passes.counts import uses_of
from gradient.plan.plan import Plan

__all__ = ["with_augmented_assignment"]


def with_augmented_assignment(plan: Plan) -> Plan:
    """Join an operator and the write of its result to its first operand, if nothing else reads the
    result, and no call in between writes what the operator reads."""
    uses = uses_of(plan)
    operators: dict[Ref, int] = {}  # by their results, those whose operands are as they were
    calls: list[Call | None] = []
    for i, call in enumerate(plan.calls):
        at = None
        if call.op == "assign" and len(call.args) == 3 and not call.options:
            x, index, value = call.args
            if index in WHOLE and isinstance(value, Ref) and uses[value] == 1:
                at = operators.get(value)
            operator = None if at is None else plan.calls[at]
            if operator is not None and operator.args[0] == x:
                calls[operators[value]] = None
                call = Call(
                    f"i{operator.op}", operator.args, {}, None, call.writes, location=call.location
                )
        for root in call.writes:
            operators = {
                out: n for out, n in operators.items()
                if root not in map(plan.root, plan.calls[n].inputs)
            }  # fmt: skip
        if f"i{call.op}" in AUGMENTED and _in_place(plan, call):
            operators[call.out] = i
        calls.append(call)
    return plan.with_calls([call for call in calls if call is not None])


def _in_place(plan: Plan, call: Call) -> bool:
    """Whether an operator's result has the layout of its first operand, whose memory no other
    operand shares."""
    x, *others = call.args
    if not isinstance(x, Ref) or not isinstance(call.out, Ref) or call.numbers or call.pieces:
        return False
    a, b = plan.buffers[x], plan.buffers[call.out]
    return (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype) and not any(
        isinstance(y, Ref) and plan.root(y) == a.root for y in others
    )
