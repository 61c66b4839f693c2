"""The differences from PyTorch that we mean, or that it leaves open: each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fuzzing.comparison import Difference
from fuzzing.interpreter import Raised, Taken
from fuzzing.program import line


@dataclass(frozen=True)
class Known:
    reason: str
    covers: Callable[[Difference], bool]


def _says(value: object, *words: str) -> bool:
    return isinstance(value, Raised) and any(w in str(value.error) for w in words)


def _zeros(value: object) -> bool:
    return isinstance(value, Taken) and not np.any(value.values)


def _named(difference: Difference, *names: str) -> bool:
    return difference.function.lstrip(".").removeprefix("nn.functional.") in names


def _uses(difference: Difference, *names: str) -> bool:
    return any(s.function.rpartition(".")[2] in names for s in difference.program)


def _within(difference: Difference, limit: float) -> bool:
    a, b = difference.ours, difference.theirs
    if not isinstance(a, Taken) or not isinstance(b, Taken):
        return False
    return bool(np.allclose(a.values, b.values, rtol=limit, atol=limit, equal_nan=True))


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
    Known(
        "PyTorch has no derivative of the function, or no second one; ours differentiate to any "
        "order, and that of a step function is 0",
        lambda d: (
            d.kind in ("gradient accepted", "second accepted")
            and _says(d.theirs, "derivative for", "the derivative of")
        ),
    ),
    Known(
        "one of several views of split, chunk or unbind may be written",
        lambda d: d.kind == "accepted" and _says(d.theirs, "function that returns multiple views"),
    ),
    Known(
        "the result is computed before it is written, so that the source may overlap with it",
        lambda d: (
            d.kind == "accepted"
            and _says(d.theirs, "some elements of the input tensor and the written-to tensor")
        ),
    ),
    Known(
        "which of several equal elements (or NaN) is chosen is not defined",
        lambda d: (
            d.kind == "value"
            and (
                _named(d, "kthvalue", "median", "topk", "sort", "argsort")
                or "max_pool" in d.function
            )
            and isinstance(d.theirs, Taken)
            and d.theirs.dtype == "int64"
        ),
    ),
    Known(
        "a value that copy_ overwrote has no gradient, where PyTorch gives zeros",
        lambda d: d.kind == "gradient None" and d.ours is None and _zeros(d.theirs),
    ),
    Known(
        "random draws have no gradient, where PyTorch gives zeros",
        lambda d: d.kind == "requires_grad" and _named(d, "bernoulli"),
    ),
    Known(
        "PyTorch takes 1/6 in float32, also in float64",
        lambda d: (
            d.kind in ("gradient", "second")
            and _uses(d, "hardsigmoid", "Hardsigmoid", "hardswish", "Hardswish")
            and _within(d, 1e-7)
        ),
    ),
    Known(
        "an expanded tensor shares memory with itself, so that no part of it is written",
        lambda d: _says(d.ours, "the memory of this tensor cannot be"),
    ),
    Known(
        "scatter's reduce='multiply' is not offered; PyTorch advises against it",
        lambda d: d.kind == "refused" and _says(d.ours, "expected reduce None or 'add'"),
    ),
    Known(
        "the strides of a new result are our own",
        lambda d: d.kind == "value" and _named(d, "stride", "is_contiguous"),
    ),
    Known(
        "an infinite weight is multiplied with the reciprocal of a deviation first in PyTorch",
        lambda d: (
            d.kind == "value"
            and _named(d, "instance_norm", "group_norm", "batch_norm")
            and "inf" in "".join(line(i, s) for i, s in enumerate(d.program))
        ),
    ),
    Known(
        "what has no gradient requires none",
        lambda d: d.kind == "requires_grad" and _named(d, "unique", "logical_not_"),
    ),
    Known(
        "a number, not its bool tensor, is a size",
        lambda d: d.kind == "refused" and _says(d.ours, "got tensor(True)", "got tensor(False)"),
    ),
    Known(
        "a channel of dropout1d and dropout3d without a batch is a view in PyTorch",
        lambda d: d.kind == "is_leaf" and _named(d, "dropout1d", "dropout3d"),
    ),
    Known(
        "a sum asked for in an integer dtype has no gradient, where PyTorch raises",
        lambda d: d.kind == "accepted" and _says(d.theirs, "Autograd not support dtype"),
    ),
    Known(
        "PyTorch leaves NaN out of the multi-margin loss",
        lambda d: (
            _uses(d, "multi_margin_loss", "MultiMarginLoss")
            and isinstance(d.ours, Taken)
            and bool(np.isnan(d.ours.values).any())
        ),
    ),
    Known(
        "the legacy arguments size_average and reduce are not taken",
        lambda d: (
            d.kind == "refused"
            and d.function.startswith("nn.functional.")
            and _says(d.ours, "positional arguments but")
        ),
    ),
]


def reason(difference: Difference) -> str | None:
    return next((k.reason for k in KNOWN if k.covers(difference)), None)
