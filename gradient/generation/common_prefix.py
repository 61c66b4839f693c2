"""The common prefix of token sequences."""

from __future__ import annotations

from collections.abc import Sequence


def common_length(texts: Sequence[Sequence[int]]) -> int:
    """Return the length of the common prefix of all texts, of which there is at least one."""
    first, *others = texts
    return min((_common_length(first, other) for other in others), default=len(first))


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:  # the usual case, compared without a loop in Python
        return shorter
    return next((at for at in range(shorter) if a[at] != b[at]), shorter)
