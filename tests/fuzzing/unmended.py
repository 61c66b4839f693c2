"""Differences that random programs found and that are still to be mended: a list to be shortened.

Unlike the table in `known`, nothing here is meant. A row is a kind of difference and the functions
that show it; mend one, and delete its name.
"""

from __future__ import annotations

from fuzzing.comparison import Difference

OPEN: dict[str, set[str]] = {
    "value": {"erfc"},  # above 7 the tail loses digits, down to 3e-7 at 26
}  # fmt: skip

OPEN_GRADIENTS: dict[str, set[str]] = {}
"""Of whole programs, by a function that the shortest one has."""


def is_open(difference: Difference) -> bool:
    name = difference.function.lstrip(".").removeprefix("nn.functional.")
    used = {s.function.rpartition(".")[2] for s in difference.program}
    return name in OPEN.get(difference.kind, set()) or bool(
        used & OPEN_GRADIENTS.get(difference.kind, set())
    )
