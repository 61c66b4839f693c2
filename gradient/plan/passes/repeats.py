"""Common-subexpression elimination: remove repeated calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import numpy as np

from gradient.plan.calls import Call, HostNumber, Ref
from gradient.plan.passes.aliases import with_aliases
from gradient.plan.passes.counts import writes_of
from gradient.plan.plan import Plan

__all__ = ["without_repeats"]


def without_repeats(plan: Plan) -> Plan:
    """Make each call once: its results replace those of later equal calls on equal values. Buffers
    that are written in place are kept apart, and so is a checkpointed segment that is computed
    again, so that its results need not be held until then."""
    written = writes_of(plan)
    versions: Counter[Ref] = Counter()
    first: dict[Hashable, Call] = {}
    aliases: dict[Ref, Ref] = {}
    kept = []
    for call in plan.calls:
        earlier = None
        if call.outputs and not call.writes:
            own = {ref for ref in call.outputs if plan.root(ref) == ref}
            if call.view or not any(written[ref] for ref in own):
                try:
                    key = _key(plan, call, aliases, versions)
                    earlier = first.setdefault(key, call)
                except TypeError:  # an argument that cannot be hashed
                    pass
        if earlier is None or earlier is call:
            kept.append(call)
        else:
            aliases.update(zip(call.outputs, earlier.outputs, strict=True))
        versions.update(call.writes)
    return with_aliases(plan.with_calls(kept), aliases)


def _key(
    plan: Plan, call: Call, aliases: dict[Ref, Ref], versions: Counter[Ref]
) -> tuple[Hashable, ...]:
    """A key of a call, equal for calls that give the same results."""

    def of(x: Any) -> Hashable:
        if isinstance(x, Ref):
            x = aliases.get(x, x)
            return ("buffer", int(x), 0 if call.view else versions[plan.root(x)])
        if isinstance(x, HostNumber):
            return ("number", x.name)
        if isinstance(x, (tuple, list)):
            return (type(x), *map(of, x))
        if isinstance(x, dict):
            return tuple((name, of(value)) for name, value in x.items())
        if isinstance(x, slice):
            return (slice, of(x.start), of(x.stop), of(x.step))
        if x is None or x is Ellipsis or isinstance(x, (str, np.dtype)):
            return x
        if isinstance(x, (bool, int, float)):
            return (type(x), repr(x))  # 1 and 1.0 differ, 0.0 and -0.0, and NaN is NaN
        raise TypeError(type(x).__name__)

    return call.op, call.segment, of(call.args), of(call.options)
