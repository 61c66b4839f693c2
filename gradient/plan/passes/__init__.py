"""Passes: small pure functions from plan to plan, one a file.

Results stay the same, bit for bit; those of `with_fused_chains` and `with_activations` differ by
rounding.
"""

from gradient.plan.passes.activations import with_activations
from gradient.plan.passes.constants import with_folded_constants
from gradient.plan.passes.copies import without_copies
from gradient.plan.passes.dead import without_dead_calls
from gradient.plan.passes.fusion import with_fused_chains
from gradient.plan.passes.order import with_less_held
from gradient.plan.passes.repeats import without_repeats
from gradient.plan.plan import Plan

__all__ = [
    "simplified",
    "with_activations",
    "with_folded_constants",
    "with_fused_chains",
    "with_less_held",
    "without_copies",
    "without_dead_calls",
    "without_repeats",
]


def simplified(plan: Plan) -> Plan:
    """The plan after the passes that make it shorter, in an order in which each finds most."""
    for one_pass in (
        without_dead_calls,
        with_folded_constants,
        without_repeats,
        without_copies,
        without_dead_calls,
    ):
        plan = one_pass(plan)
    return plan
