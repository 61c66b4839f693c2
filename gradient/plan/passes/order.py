"""Calls in an order that holds less memory."""

from __future__ import annotations

from collections.abc import Iterable

from gradient.plan.calls import BOUNDARY, Call, Ref
from gradient.plan.plan import Plan

__all__ = ["with_less_held"]


def with_less_held(plan: Plan) -> Plan:
    """Let calls that free more than they make go before calls that make more than they free, where
    neither needs the other.

    So a weight's gradient, after which its layer's input is needed no more, is computed before the
    gradient of that input takes memory. No call moves across a check, or the boundary of two parts.
    """
    order = _Order(plan)
    for call in plan.calls:
        order.add(call)
    return plan.with_calls(order.calls)


class _Order:
    """The calls so far, in their new order.

    last   by root, of those that calls make and that do not leave the plan: the last call, in the
           order that is known, that uses it
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
        """Put a call behind the others, or before those that it had better go before."""
        crossed: list[int] = []
        views: list[int] = []  # that the call needs
        before = 0  # of these, how many stand behind the first that is crossed
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
        """The roots made by calls that this one reads, makes or writes."""
        refs = (*call.inputs, *call.outputs, *call.writes)
        roots = {self.buffers[ref].root for ref in refs}
        return {root for root in roots if self.buffers[root].kind == "internal"}

    def freed(self, call: Call) -> set[Ref]:
        """The roots, but its own, that nobody uses after it."""
        return {r for r in self.used(call) if self.last.get(r) is call}.difference(call.outputs)

    def made(self, call: Call) -> int:
        return self.nbytes(ref for ref in call.outputs if self.buffers[ref].root == ref)

    def nbytes(self, refs: Iterable[Ref]) -> int:
        return sum(self.buffers[ref].nbytes for ref in refs)


def _stays(call: Call) -> bool:
    """Whether nothing moves across it: what comes after a check may rely on it."""
    return call.op == BOUNDARY or not (call.outputs or call.writes)
