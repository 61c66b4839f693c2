"""Remove copies that cannot be distinguished from the original."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.plan.calls import Call, Ref
from gradient.plan.passes.aliases import with_aliases
from gradient.plan.passes.counts import writes_of
from gradient.plan.plan import Plan

__all__ = ["without_copies"]

COPIES = ("copy", "clone")


def without_copies(plan: Plan) -> Plan:
    """Replace a copy by its original of the same layout, if the copy is the original's last use, or
    neither is written while the copy is in use. A sum with an integer 0 is a copy, too, and a slice
    of all elements is the original."""
    last_use: dict[Ref, int] = {plan.root(ref): len(plan.calls) for ref in plan.outputs}
    writes: dict[Ref, list[int]] = {}
    for i, call in enumerate(plan.calls):
        for root in map(plan.root, (*call.inputs, *call.outputs)):
            last_use[root] = max(i, last_use.get(root, 0))
        for root in call.writes:
            writes.setdefault(root, []).append(i)
    leaving = {plan.root(ref) for ref in plan.outputs}
    written = writes_of(plan)

    def is_zero(x: Any) -> bool:
        if not isinstance(x, Ref):
            return type(x) is int and x == 0
        buffer = plan.buffers[x]
        return buffer.kind == "constant" and not written[buffer.root] and not np.any(buffer.array)

    def copied_by(call: Call) -> Ref | None:
        """The array whose copy the result of a call is; None if it computes anything else."""
        if len(call.outputs) != 1 or call.options or call.numbers:
            return None
        if call.op in COPIES and call.inputs:
            return call.inputs[0]
        if call.op == "add" and plan.buffers[call.outputs[0]].dtype.kind in "iu":
            a, b = call.args
            found = a if is_zero(b) else b if is_zero(a) else None
            return found if isinstance(found, Ref) else None
        return None

    def alike(a: Ref, b: Ref) -> bool:
        x, y = plan.buffers[a], plan.buffers[b]
        return (x.shape, x.strides, x.dtype) == (y.shape, y.strides, y.dtype)

    aliases: dict[Ref, Ref] = {}
    merged: set[Ref] = set()  # roots that replace others: their last use has changed
    kept = []
    for i, call in enumerate(plan.calls):
        if call.view and call.op == "getitem":
            whole, part = call.inputs[0], call.outputs[0]
            if alike(whole, part) and part not in plan.outputs:
                aliases[part] = whole
                continue
        copied = copied_by(call)
        if copied is not None:
            copy, root = call.outputs[0], plan.root(copied)
            dies = plan.buffers[root].kind == "internal" and last_use[root] == i
            if plan.buffers[root].kind == "internal":  # a small view must not keep a large array
                lasts = plan.buffers[root].nbytes == plan.buffers[copy].nbytes
            else:
                lasts = copy not in leaving  # outputs must not share memory
            stays = (
                lasts
                and all(n < i for n in writes.get(copy, ()))
                and not any(i < n <= last_use[copy] for n in writes.get(root, ()))
            )
            same = alike(copied, copy) and plan.root(copy) == copy
            if same and (dies or stays) and not {root, copy} & merged:
                aliases[copy] = copied
                merged |= {root, copy}
                continue
        kept.append(call)
    return with_aliases(plan.with_calls(kept), aliases)
