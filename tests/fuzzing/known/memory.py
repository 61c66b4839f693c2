"""Views, copies, and writes to memory that is seen twice."""

from __future__ import annotations

from dataclasses import replace

from fuzzing.comparison import GRADIENTS
from fuzzing.interpreter import overwrites
from fuzzing.known.looks import Known, named, says, text, uses
from fuzzing.program import Program
from fuzzing.replay import (
    agrees_in_order,
    agrees_without,
    overlaps,
    raised_in_place,
    sharing_differs,
    written_twice,
)


def with_clones(program: Program) -> Program:
    """The program with clone() in the place of contiguous(), which may copy and may not."""
    names = {".contiguous": ".clone", "contiguous": "clone"}
    return tuple(replace(s, function=names.get(s.function, s.function)) for s in program)


KNOWN: list[Known] = [
    Known(
        "an operation in place that raises may have written a part",
        lambda d: d.kind in ("value", "final") and raised_in_place(d),
    ),
    Known(
        "PyTorch reads a source that overlaps with what it writes while it writes it",
        lambda d: d.kind == "value" and overwrites(d.program[d.index]) and overlaps(d),
    ),
    Known(
        "the strides of a new result are our own, and with them what a reshape has to copy",
        lambda d: (
            (d.kind == "value" and named(d, "stride", "is_contiguous"))
            or (d.kind == "accepted" and says(d.theirs, "view size is not compatible"))
            or (d.kind == "refused" and says(d.ours, "is not contiguous enough"))
            or ((d.kind == "alias" or any(map(overwrites, d.program))) and sharing_differs(d))
            or (d.kind in GRADIENTS and sharing_differs(d) and agrees_without(d, with_clones))
        ),
    ),
    Known(
        "dequantize of unpacked numbers is a view",
        lambda d: d.kind in ("alias", "is_leaf", "requires_grad") and uses(d, "dequantize"),
    ),
    Known(
        "of several writes to one place, which is the last is not defined",
        lambda d: d.kind == "value" and named(d, "setitem") and written_twice(d),
    ),
    Known(
        "PyTorch reads other memory for the median of an expanded tensor",
        lambda d: uses(d, "median") and "expand" in text(d) and agrees_in_order(d),
    ),
    Known(
        "PyTorch's gradient of batch_norm reads a weight with gaps, or an expanded one, as if it "
        "had neither",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, "batch_norm")
            and ("::2" in text(d) or "expand" in text(d))
            and agrees_in_order(d)
        ),
    ),
]
