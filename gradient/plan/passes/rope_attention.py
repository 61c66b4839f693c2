"""Join a decoder's write to its cache, and the attention that reads it, to one call.

    q, keys, values = rope_update(q, k, v, ...)               (out, _, _) = rope_attention(
    out = cached_attention(q, (keys,), (values,), slots)          q, k, v, ..., slots)

The results of the call are the same, bit for bit.
"""

from __future__ import annotations

from collections import Counter

from gradient.plan.calls import Call, Ref
from gradient.plan.passes.counts import uses_of
from gradient.plan.plan import Plan

__all__ = ["with_rope_attention"]


def with_rope_attention(plan: Plan) -> Plan:
    """Join an attention with the update before it, if nothing else reads the rotated queries, and
    there are only views between the two."""
    uses = uses_of(plan)
    kept: list[Call] = []
    update: tuple[int, Call] | None = None  # where it is kept
    for call in plan.calls:
        if call.op == "cached_attention" and update is not None:
            both = _together(update[1], call, uses)
            if both is not None:
                del kept[update[0]]
                kept.append(both)
                update = None
                continue
        kept.append(call)
        if call.op == "rope_update":
            update = len(kept) - 1, call
        elif not call.view:
            update = None
    return plan.with_calls(kept)


def _together(update: Call, attention: Call, uses: Counter[Ref]) -> Call | None:
    """The joined call, which replaces the attention; None if they do not match."""
    if type(update.out) is not tuple or attention.options or attention.numbers or update.numbers:
        return None
    rotated, cache = update.out[0], update.args[5]
    q, keys, values, *how = attention.args
    if q != rotated or uses[rotated] != 1 or (*keys, *values) != cache or len(how) not in (1, 2):
        return None
    out = (attention.out, None, None)
    return Call(
        "rope_attention", (*update.args, *how), {}, out, update.writes, location=attention.location
    )
