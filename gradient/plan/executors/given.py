"""Inputs that a plan's tasks read in place, without a copy.

Tasks are bound to addresses. If only tasks read an input, the addresses are replaced before each
run: this is faster than copying a large array, and needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gradient.backends.numpy import memory, threads
from gradient.plan.calls import BOUNDARY, Call, Ref
from gradient.plan.executors.program import Step, concurrent_task, task
from gradient.plan.plan import Plan

LARGE = 1 << 16
"""The minimum bytes of an input that is not copied."""


def read_by_tasks(plan: Plan, calls: Sequence[Call], steps: Sequence[Step]) -> frozenset[Ref]:
    """The large inputs that only tasks read; `calls` has the call of each step. A plan in two parts
    has none, as its inputs may change before the second part runs."""
    if any(call.op == BOUNDARY for call in plan.calls):
        return frozenset()
    by_python = [
        call
        for call, (function, _) in zip(calls, steps, strict=True)
        if function not in (task, concurrent_task)
    ]
    others = {plan.root(ref) for call in by_python for ref in call.inputs}
    others.update(map(plan.root, plan.outputs), plan.written)
    return frozenset(
        ref
        for ref in plan.inputs
        if plan.root(ref) not in others and plan.buffers[ref].nbytes >= LARGE
    )


class Given:
    """An input, and the arguments of tasks that hold its address."""

    def __init__(self, place: np.ndarray, lists: Iterable[threads.Tasks]):
        self.place = place
        self._first = self._now = memory.first_byte(place)
        steps = zip(place.shape, place.strides, strict=True)
        last = self._first + place.itemsize + sum((n - 1) * abs(step) for n, step in steps)
        self._slots = [slot for each in lists for slot in each.addresses(self._first, last)]

    def bind(self, x: np.ndarray) -> None:
        """Let the tasks read `x`; the caller must keep it alive until they are done."""
        fits = (
            isinstance(x, np.ndarray)
            and x.flags.aligned
            and (x.shape, x.strides, x.dtype)
            == (self.place.shape, self.place.strides, self.place.dtype)
        )
        if not fits:
            np.copyto(self.place, x)
        address = memory.first_byte(x) if fits else self._first
        if address != self._now:
            for numbers, slot in self._slots:
                numbers[slot] += address - self._now
            self._now = address
