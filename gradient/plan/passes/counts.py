"""How often the buffers of a plan are read and written."""

from __future__ import annotations

from collections import Counter

from gradient.plan.calls import Ref
from gradient.plan.plan import Plan


def uses_of(plan: Plan) -> Counter[Ref]:
    """The number of times that each buffer is an argument, an output, or the root of a view."""
    uses = Counter(ref for call in plan.calls for ref in call.inputs)
    uses.update(plan.outputs)
    made = [ref for call in plan.calls for ref in call.outputs]
    uses.update(plan.root(ref) for ref in made if plan.root(ref) != ref)
    return uses


def writes_of(plan: Plan) -> Counter[Ref]:
    """The number of calls that write to each root."""
    return Counter(root for call in plan.calls for root in call.writes)
