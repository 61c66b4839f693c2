"""The differences from PyTorch that we mean, or that it leaves open: each with its reason.

refusals   what one package takes and the other refuses
classes    one mistake, refused by both with errors of other classes
graph      who requires a gradient, and what may be overwritten
memory     views, copies, and writes to memory that is seen twice
choices    which of several equal numbers is chosen
edges      zeros, kinks, infinities and NaN
rounding   how far numbers are carried by rounding, or by constants of few digits
looks      what reasons look at in a difference

A reason names its cause, and looks at the numbers: it may not cover a finite number that differs
from a finite one, unless the program is run again without the cause and then agrees.
"""

from __future__ import annotations

from fuzzing.comparison import Difference
from fuzzing.known import choices, classes, edges, graph, memory, refusals, rounding

KNOWN = [
    *refusals.KNOWN,
    *classes.KNOWN,
    *graph.KNOWN,
    *memory.KNOWN,
    *choices.KNOWN,
    *edges.KNOWN,
    *rounding.KNOWN,
]


def unexplained(found: list[Difference]) -> Difference | None:
    """The first of a program's differences that no reason covers."""
    return next((d for d in found if reason(d) is None), None)


def reason(difference: Difference) -> str | None:
    return next((k.reason for k in KNOWN if k.covers(difference)), None)
