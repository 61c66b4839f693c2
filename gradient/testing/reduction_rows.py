"""Rows of the op table for reductions, scans and sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.ops import loss, reduce
from gradient.testing.row import Row
from gradient.testing.samples import EMPTY, ONE


def reduction(op: str, reference: Any, axis: Any, keepdims: bool = False, **more: Any) -> Row:
    """A reduction of a (3, 4, 2) input."""

    def run(x: Any) -> Any:
        return getattr(reduce, op)(x, axis=axis, keepdims=keepdims)

    def expected(x: Any) -> Any:
        return reference(x, axis=axis, keepdims=keepdims)

    note = f"axis={axis}" + (", keepdims" if keepdims else "")
    return Row(op, run, expected, ((3, 4, 2),), note=note, **more)


def huber(gap: np.ndarray, delta: float) -> np.ndarray:
    size = abs(gap)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


ROWS = [
    reduction("sum", np.sum, None),
    reduction("sum", np.sum, 1, empty=((3, 0, 2),)),
    reduction("sum", np.sum, (0, 2), True),
    Row(
        "sum_of_squares",
        reduce.sum_of_squares,
        lambda x: np.sum(x * x),
        ((3, 4),),
        empty=((3, 0),),
        scalar=True,
    ),
    reduction(
        "sum_of_squares",
        lambda x, axis, keepdims: np.sum(x * x, axis, keepdims=keepdims),
        (0, 2),
        True,
    ),
    Row(
        "squared_error",
        lambda x, t: loss.squared_error(x, t, count=3),
        lambda x, t: np.sum((x - t) ** 2) / 3,
        ((3, 4), (3, 4)),
        empty=((3, 0), (3, 0)),
        scalar=True,
    ),
    Row(
        "huber_error",
        lambda x, t: loss.huber_error(x, t, delta=0.7, divisor=0.7, count=3),
        lambda x, t: np.sum(huber(x - t, 0.7)) / 2.1,
        ((3, 4), (3, 4)),
        empty=((3, 0), (3, 0)),
        scalar=True,
    ),
    Row(
        "logistic_error",
        lambda x, t: loss.logistic_error(x, t, count=3),
        lambda x, t: np.sum(np.log1p(np.exp(x)) - t * x) / 3,
        ((3, 4), (3, 4)),
        empty=((3, 0), (3, 0)),
        scalar=True,
    ),
    Row(
        "total_norm",
        reduce.total_norm,
        lambda x, y: np.sqrt(np.sum(x * x) + np.sum(y * y)),
        ((3, 4), (2,)),
        empty=((3, 0), (0,)),
        differentiable=False,
    ),
    reduction("mean", np.mean, None),
    reduction("mean", np.mean, (1, 2)),
    reduction("var", lambda x, axis, keepdims: x.var(axis, ddof=1, keepdims=keepdims), None),
    reduction(
        "var", lambda x, axis, keepdims: x.var(axis, ddof=1, keepdims=keepdims), (0, 2), True
    ),
    reduction("std", lambda x, axis, keepdims: x.std(axis, ddof=1, keepdims=keepdims), None),
    reduction("std", lambda x, axis, keepdims: x.std(axis, ddof=1, keepdims=keepdims), 1),
    reduction("prod", np.prod, None, tolerance=64),
    reduction("prod", np.prod, 1, True, empty=((3, 0, 2),)),
    Row("taxicab_norm", reduce.taxicab_norm, lambda x: np.abs(x).sum(-1), ONE),
    Row("chebyshev_norm", reduce.chebyshev_norm, lambda x: np.abs(x).max(-1), ONE),
    Row("max", reduce.max, np.max, ONE),
    Row("min", reduce.min, np.min, ONE),
    Row("median", reduce.median, lambda x: np.sort(x, None)[(x.size - 1) // 2], ONE),
    reduction("amax", np.max, None),
    reduction("amax", np.max, 1),
    reduction("amin", np.min, (0, 1), True),
    reduction(
        "logsumexp", lambda x, axis, keepdims: np.log(np.exp(x).sum(axis, keepdims=keepdims)), 1
    ),  # fmt: skip
    reduction("argmax", lambda x, axis, keepdims: np.argmax(x, axis), 1, differentiable=False),
    reduction("argmin", lambda x, axis, keepdims: np.argmin(x, axis), 1, differentiable=False),
    reduction("all", np.all, 1, differentiable=False, kind="bool", empty=((3, 0, 2),)),
    reduction("any", np.any, 1, differentiable=False, kind="bool", empty=((3, 0, 2),)),
    Row("cumsum", lambda x: reduce.cumsum(x, axis=1), lambda x: np.cumsum(x, 1), ONE, empty=EMPTY),
    Row(
        "logcumsumexp",
        lambda x: reduce.logcumsumexp(x, axis=1),
        lambda x: np.logaddexp.accumulate(x, 1),
        ONE,
    ),
    Row("cumprod", lambda x: reduce.cumprod(x, axis=1), lambda x: np.cumprod(x, 1), ONE),
    Row(
        "argsort",
        lambda x: reduce.argsort(x, axis=1),
        lambda x: np.argsort(x, 1),
        ONE,
        differentiable=False,
        empty=EMPTY,
    ),
    Row(
        "topk",
        lambda x: reduce.topk(x, k=2, axis=1),
        lambda x: np.argsort(-x, 1)[:, :2],
        ONE,
        differentiable=False,
    ),
    Row("likeliest", reduce.likeliest, lambda x: x.argmax(-1), ONE, differentiable=False),
    Row(
        "categorical",
        lambda weights, uniform: reduce.categorical(weights, uniform),
        lambda w, u: (w.cumsum(1) < (1 - u[:, None]) * w.sum(1, keepdims=True)).sum(1),
        [(3, 4), (3,)],
        low=0.0,
        high=1.0,
        differentiable=False,
    ),
]
