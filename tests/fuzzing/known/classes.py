"""One mistake, refused by both with errors of other classes."""

from __future__ import annotations

import gradient
from fuzzing.comparison import Difference
from fuzzing.known.looks import Known, named, says

OWN = gradient.errors.GradientError

PYTHON = ("object has no attribute", "unsupported operand type", "not supported between instances",
          "object is not iterable", "object is not subscriptable", "len() of", "local variable",
          "Boolean value of Tensor", "any() received an invalid combination")  # fmt: skip


def ours_is(difference: Difference, *kinds: type[Exception]) -> bool:
    return difference.kind == "error" and isinstance(difference.ours.error, kinds)


def theirs_is(difference: Difference, *kinds: type[Exception]) -> bool:
    return difference.kind == "error" and isinstance(difference.theirs.error, kinds)


KNOWN: list[Known] = [
    Known(
        "PyTorch's Python code fails on what it was given, or asserts; ours names the argument",
        lambda d: (
            ours_is(d, OWN)
            and (theirs_is(d, AssertionError) or says(d.theirs, *PYTHON))
            and not says(d.ours, *PYTHON)
        ),
    ),
    Known(
        "a shape that does not fit is a ShapeError, also where PyTorch looks for a dimension that "
        "is missing, or calls a size an index",
        lambda d: ours_is(d, gradient.errors.ShapeError) and theirs_is(d, IndexError),
    ),
    Known(
        "an argument of a wrong type is a TypeError, also where PyTorch raises another",
        lambda d: (
            ours_is(d, gradient.errors.TypeMismatch)
            and says(
                d.theirs,
                "must be a scalar tensor",
                "we only support dx as a real number",
                "only supports 0-dimensional",
                "with a bool tensor is not supported",
                "scalar.isIntegral( false) to be true",
                "too many indices for tensor",
                "sizes must be non-empty",
                "Input dimension should be at least",
            )
        ),
    ),
    Known(
        "a wrong dtype is a DTypeError, also where PyTorch raises TypeError for it",
        lambda d: named(d, "invert") and ours_is(d, gradient.errors.DTypeError),
    ),
    Known(
        "PyTorch's Softmax2d tells the number of dimensions by a ValueError",
        lambda d: says(d.theirs, "Softmax2d: expected input"),
    ),
]
