"""Which of several equal numbers is chosen."""

from __future__ import annotations

import numpy as np

from fuzzing.interpreter import Taken
from fuzzing.known.looks import Known, named, permuted, same_sum, text, uses
from fuzzing.replay import agrees_without, chooses_equals, given, safe, untied

POOLS = tuple(
    f"{name}{n}d"
    for name in ("max_pool", "MaxPool", "adaptive_max_pool", "AdaptiveMaxPool")
    for n in (1, 2, 3)
)
CHOOSING = ("median", "kthvalue", "quantile", "topk", "sort", "max", "min", *POOLS)

KNOWN: list[Known] = [
    Known(
        "which of several equal elements (or NaN) is chosen is not defined",
        lambda d: (
            d.kind == "value"
            and (
                named(d, "kthvalue", "median", "topk", "sort", "argsort")
                or "max_pool" in d.function
            )
            and isinstance(d.theirs, Taken)
            and d.theirs.dtype == "int64"
            and chooses_equals(d)
        ),
    ),
    Known(
        "what topk finds with sorted=False has no order",
        lambda d: (
            d.kind == "value" and named(d, "topk") and "sorted=False" in text(d) and permuted(d)
        ),
    ),
    Known(
        "which of several NaN a max_pool chooses is not defined",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, *POOLS)
            and "nan" in text(d)
            and agrees_without(d, untied)
        ),
    ),
    Known(
        "of equal elements (or NaN) any may be chosen, and have the gradient",
        lambda d: (
            d.kind in ("gradient", "second")
            and uses(d, *CHOOSING)
            and (permuted(d) or same_sum(d))
            and agrees_without(d, untied)
        ),
    ),
    Known(
        "PyTorch's unique of slices does not order NaN",
        lambda d: (
            named(d, "unique")
            and "dim" in text(d)
            and any(np.isnan(x).any() for x in given(d))
            and agrees_without(d, safe)
        ),
    ),
]
