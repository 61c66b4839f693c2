"""Remove copies that cannot be distinguished from the original."""

from __future__ import annotations

from gradient.plan.calls import Ref
from gradient.plan.passes.aliases import with_aliases
from gradient.plan.plan import Plan

__all__ = ["without_copies"]

COPIES = ("copy", "clone")


def without_copies(plan: Plan) -> Plan:
    """Replace a copy by its original of the same layout, if the copy is the original's last use, or
    neither is written afterwards."""
    last_use: dict[Ref, int] = {plan.root(ref): len(plan.calls) for ref in plan.outputs}
    last_write: dict[Ref, int] = {}
    for i, call in enumerate(plan.calls):
        for root in map(plan.root, (*call.inputs, *call.outputs)):
            last_use[root] = max(i, last_use.get(root, 0))
        last_write.update(dict.fromkeys(call.writes, i))
    leaving = {plan.root(ref) for ref in plan.outputs}

    aliases: dict[Ref, Ref] = {}
    merged: set[Ref] = set()  # roots that replace others: their last use has changed
    kept = []
    for i, call in enumerate(plan.calls):
        if call.op in COPIES and call.inputs and len(call.outputs) == 1:
            copied, copy = call.inputs[0], call.outputs[0]
            root = plan.root(copied)
            old, new = plan.buffers[copied], plan.buffers[copy]
            alike = (old.shape, old.strides, old.dtype) == (new.shape, new.strides, new.dtype)
            dies = plan.buffers[root].kind == "internal" and last_use[root] == i
            if plan.buffers[root].kind == "internal":  # a small view must not keep a large array
                lasts = plan.buffers[root].nbytes == new.nbytes
            else:
                lasts = copy not in leaving  # outputs must not share memory
            stays = lasts and all(last_write.get(each, -1) < i for each in (root, copy))
            if alike and (dies or stays) and plan.root(copy) == copy and not {root, copy} & merged:
                aliases[copy] = copied
                merged |= {root, copy}
                continue
        kept.append(call)
    return with_aliases(plan.with_calls(kept), aliases)
