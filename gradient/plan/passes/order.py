"""Reorder calls so that less memory is in use at a time."""

from __future__ import annotations

from collections.abc import Iterable

from gradient.plan.calls import BOUNDARY, Call, Ref
from gradient.plan.plan import Plan

__all__ = ["with_less_held"]


def with_less_held(plan: Plan) -> Plan:
    """Move calls that free more bytes than they make before calls that make more than they free, if
    neither depends on the other.

    For example, a weight's gradient is the last use of the layer's input: it is computed before the
    gradient of that input allocates memory. No call moves across a check, or the boundary of two
    parts.
    """
    order = _Order(plan)
    for call in plan.calls:
        order.add(call)
    return plan.with_calls(order.calls)


class _Order:
    """The calls so far, in their new order.

    last   by root, if a call makes it and it is no output: the last call, in the old order, that
           uses it
    """

    def __init__(self, plan: Plan):
        self.buffers = plan.buffers
        self.calls: list[Call] = []
        self.last: dict[Ref, Call] = {}
        for call in plan.calls:
            self.last.update(dict.fromkeys(self.used(call), call))
        for ref in plan.outputs:
            self.last.pop(plan.root(ref), None)

    def add(self, call: Call) -> None:
        """Append a call, or insert it before calls that it should precede."""
        crossed: list[int] = []
        views: list[int] = []  # that the call needs
        before = 0  # the number of these views after the first call that is crossed
        if call.outputs and not call.writes and not call.view:
            needs = set(call.inputs)
            reads = {self.buffers[ref].root for ref in needs}
            freed, made = self.freed(call), self.made(call)
            for i in reversed(range(len(self.calls))):
                other = self.calls[i]
                if other.view:
                    if not needs.isdisjoint(other.outputs):
                        views.append(i)
                        needs.update(other.inputs)
                    continue
                if _stays(other) or not (
                    needs.isdisjoint(other.outputs) and reads.isdisjoint(other.writes)
                ):
                    break
                left = freed - self.used(other)
                if self.nbytes(left) <= made or self.nbytes(self.freed(other)) > self.made(other):
                    break
                freed = left
                crossed.append(i)
                before = len(views)
        if not crossed:
            self.calls.append(call)
            return
        for i in crossed:  # the last one first
            for root in self.used(self.calls[i]):
                if self.last.get(root) is call:
                    self.last[root] = self.calls[i]
        moved = [self.calls.pop(i) for i in views[:before]]
        self.calls[crossed[-1] : crossed[-1]] = [*reversed(moved), call]

    def used(self, call: Call) -> set[Ref]:
        """The roots made by calls that this call reads, makes or writes."""
        refs = (*call.inputs, *call.outputs, *call.writes)
        roots = {self.buffers[ref].root for ref in refs}
        return {root for root in roots if self.buffers[root].kind == "internal"}

    def freed(self, call: Call) -> set[Ref]:
        """The roots, other than its results, whose last use is this call."""
        return {r for r in self.used(call) if self.last.get(r) is call}.difference(call.outputs)

    def made(self, call: Call) -> int:
        return self.nbytes(ref for ref in call.outputs if self.buffers[ref].root == ref)

    def nbytes(self, refs: Iterable[Ref]) -> int:
        return sum(self.buffers[ref].nbytes for ref in refs)


def _stays(call: Call) -> bool:
    """Whether no call may move across it: calls after a check may rely on the check."""
    return call.op == BOUNDARY or not (call.outputs or call.writes)
