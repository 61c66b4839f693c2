"""What reasons look at in a difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fuzzing import replay
from fuzzing.comparison import Difference
from fuzzing.interpreter import Raised, Taken

CLOSE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Relative differences of numbers that a reason takes for the same."""


@dataclass(frozen=True)
class Known:
    reason: str
    covers: Callable[[Difference], bool]


def says(value: object, *words: str) -> bool:
    if isinstance(value, list):
        return any(says(v, *words) for v in value)
    return isinstance(value, Raised) and any(w in str(value.error) for w in words)


def zeros(value: object) -> bool:
    return isinstance(value, Taken) and not np.any(value.values)


def named(difference: Difference, *names: str) -> bool:
    return difference.function.lstrip(".").removeprefix("nn.functional.") in names


def uses(difference: Difference, *names: str) -> bool:
    return any(s.function.rpartition(".")[2] in names for s in difference.program)


def text(difference: Difference) -> str:
    return difference.text


def close(a: Taken, b: Taken) -> np.ndarray:
    """Where two results have the same numbers, but for rounding."""
    limit = CLOSE.get(b.dtype, 0.0)
    return np.isclose(a.values, b.values, rtol=limit, atol=limit / 10, equal_nan=True)


def nan_only_in_theirs(difference: Difference, finite: bool = True) -> bool:
    """Whether the numbers agree but for those that are NaN in PyTorch's answer alone, where ours
    are finite unless that is not asked."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    same = close(a, b)
    if np.isfinite(b.values).all():
        return False
    if not finite:
        return bool((same | np.isnan(b.values)).all())
    return bool((same | (~np.isfinite(b.values) & np.isfinite(a.values))).all())


def left_out(difference: Difference) -> bool:
    """Whether our gradient of zeros is none in PyTorch's answer."""
    return (
        difference.kind == "gradient None" and difference.theirs is None and zeros(difference.ours)
    )


def dtypes(difference: Difference) -> set[str]:
    return replay.dtypes(difference.program)


def nan_only_in_ours(difference: Difference) -> bool:
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.isnan(a.values).any() and (close(a, b) | np.isnan(a.values)).all())


def finite_agree(difference: Difference) -> bool:
    """Whether the numbers that are finite under both agree."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    both = np.isfinite(a.values) & np.isfinite(b.values)
    limit = CLOSE.get(b.dtype, 0.0)
    return bool(np.allclose(a.values[both], b.values[both], rtol=limit, atol=limit))


def not_finite_alike(difference: Difference) -> bool:
    """Whether the numbers agree but for some that are finite under neither."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    finite = np.isfinite(a.values)
    alike = bool((finite == np.isfinite(b.values)).all()) and not finite.all()
    return alike and finite_agree(difference)


def irregular(difference: Difference) -> bool:
    """Whether the program has an infinity, NaN, or numbers whose squares or exponentials overflow
    in some dtype."""
    return any(word in text(difference) for word in ("inf", "nan", "e+30", "e-30", "1000000.0"))


def permuted(difference: Difference) -> bool:
    """Whether both have the same numbers, at other places."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.allclose(*(np.sort(t.values.reshape(-1)) for t in (a, b)), equal_nan=True))


def alike_but_for_signs(difference: Difference) -> bool:
    """Whether the numbers agree but for the signs of some."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken) or a.values.dtype.kind != "f":
        return False
    return bool(np.allclose(abs(a.values), abs(b.values), rtol=1e-12, atol=0, equal_nan=True))


def within(difference: Difference, limit: float) -> bool:
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.allclose(a.values, b.values, rtol=limit, atol=limit, equal_nan=True))


def same_sum(difference: Difference) -> bool:
    """Whether both give the same in all: a gradient that went to another of equal elements."""
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    with np.errstate(all="ignore"):  # infinities, too
        return bool(np.isclose(a.values.sum(), b.values.sum(), rtol=1e-9, atol=1e-9))
