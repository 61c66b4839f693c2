"""The differences from PyTorch that we mean, or that it leaves open: each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuzzing.comparison import Difference
from fuzzing.interpreter import Raised


@dataclass(frozen=True)
class Known:
    reason: str
    covers: Callable[[Difference], bool]


def _says(value: object, *words: str) -> bool:
    return isinstance(value, Raised) and any(w in str(value.error) for w in words)


KNOWN: list[Known] = [
    Known(
        "PyTorch's CPU kernel of the function lacks the dtype; ours takes it",
        lambda d: (
            d.kind == "accepted" and _says(d.theirs, "not implemented for", "not supported for")
        ),
    ),
    Known(
        "we keep fewer values for the gradient, so that fewer writes are refused",
        lambda d: (
            d.kind in ("gradient accepted", "second accepted")
            and _says(d.theirs, "modified by an inplace operation")
        ),
    ),
]


def reason(difference: Difference) -> str | None:
    return next((k.reason for k in KNOWN if k.covers(difference)), None)
