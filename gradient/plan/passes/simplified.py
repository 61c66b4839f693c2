"""Apply all passes that make a plan shorter."""

from gradient.plan.passes.constants import with_folded_constants
from gradient.plan.passes.copies import without_copies
from gradient.plan.passes.dead import without_dead_calls
from gradient.plan.passes.repeats import without_repeats
from gradient.plan.plan import Plan

__all__ = ["simplified"]


def simplified(plan: Plan) -> Plan:
    """Apply the passes that make a plan shorter, in the order that removes most calls."""
    for one_pass in (
        without_dead_calls,
        with_folded_constants,
        without_repeats,
        without_copies,
        without_dead_calls,
    ):
        plan = one_pass(plan)
    return plan
