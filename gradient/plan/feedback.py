"""Plans that run several times, each on the last run's result, without the host.

Without feedback the host copies a run's result to the next run's input. With it, the plan's last
call does so (`Backend.feed_back`), and writes the results of all runs one below the other:

    return tokens, logits           feed_back(tokens, input 0, results, run, rows, input 1)
                                    return tokens, logits

The first result has the shape and dtype of the first input. A second input takes the next of `rows`
in each run. An addition at the end of the plan to counts on the device (`counts += 1`) is made by
the same call. No result may be in the memory of an input, which this call overwrites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from gradient.backends import Array
from gradient.dtypes import int64
from gradient.plan.calls import Buffer, Call, Ref
from gradient.plan.plan import Plan

__all__ = ["Feedback", "with_feedback"]


class Feedback(NamedTuple):
    """The buffers of a plan by which its runs follow each other.

    results   the first results of the runs, (runs, ...)
    run       int64 (1,), the number of the run
    rows      the values of the second input in each run, (runs, ...); None if there is none
    """

    results: Ref
    run: Ref
    rows: Ref | None

    def memory(self, plan: Plan, backend: Any) -> Mapping[Ref, Array]:
        """Return new arrays for the buffers, of zeros."""
        buffers = {ref: plan.buffers[ref] for ref in self if ref is not None}
        return {ref: backend.zeros(each.shape, each.dtype) for ref, each in buffers.items()}


def with_feedback(plan: Plan, runs: int) -> tuple[Plan, Feedback]:
    """Let a plan prepare its next run. `runs` may follow each other, if the first has number 0."""
    buffers = list(plan.buffers)
    result, (given, *others) = plan.outputs[0], plan.inputs

    def added(shape: tuple[int, ...], dtype: np.dtype) -> Ref:
        ref = Ref(len(buffers))
        steps = np.empty((0, *shape[1:]), dtype).strides
        buffers.append(Buffer(shape, dtype, steps, "external", ref))
        return ref

    results = added((runs, *buffers[result].shape), buffers[result].dtype)
    run = added((1,), int64.numpy)
    row = others[0] if others else None
    rows = None if row is None else added((runs, *buffers[row].shape), buffers[row].dtype)
    calls, counts, by = _without_last_count(plan)
    args = result, given, results, run, rows, row, counts, by
    written = (buffers[ref].root for ref in (given, results, run, row, counts) if ref is not None)
    calls.append(Call("feed_back", args, {}, None, tuple(dict.fromkeys(written))))
    return replace(plan, buffers=tuple(buffers), calls=tuple(calls)), Feedback(results, run, rows)


def _without_last_count(plan: Plan) -> tuple[list[Call], Ref | None, int]:
    """The calls without the last addition of an integer to int64 counts that no later call reads or
    writes; the counts, and the integer. None and 0 if there is no such call."""
    calls, used = list(plan.calls), set(map(plan.root, (*plan.inputs, *plan.outputs)))
    for i in reversed(range(len(calls))):
        call = calls[i]
        used_here = {*map(plan.root, call.inputs), *call.writes}
        if call.op == "iadd" and not used & used_here:
            counts, by = call.args
            if type(by) is int and plan.buffers[counts].dtype == int64.numpy:
                return [*calls[:i], *calls[i + 1 :]], counts, by
        used |= used_here
    return calls, None, 0
