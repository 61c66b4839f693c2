"""Plans: a step recorded once and replayed, without Python between its kernels.

`record` runs a function and gives the plan of what it did (`gradient.plan.plan` says what a plan
is, for whoever writes a pass).
"""

from gradient.plan.calls import Buffer, Call, HostNumber, Ref
from gradient.plan.errors import PlanError
from gradient.plan.plan import Plan
from gradient.plan.recording import Recording, record

__all__ = [
    "Buffer",
    "Call",
    "HostNumber",
    "Plan",
    "PlanError",
    "Recording",
    "Ref",
    "record",
]
