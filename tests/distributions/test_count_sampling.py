"""Draws of counts: their moments and probabilities, over all means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import distributions as d

N = 40_000


def moments_fit(drawn: np.ndarray, mean: float, variance: float) -> None:
    """Within five standard errors."""
    assert abs(drawn.mean() - mean) <= 5 * math.sqrt(variance / N)
    assert abs(drawn.var() - variance) <= 5 * variance * math.sqrt(2 / N) + 5 * math.sqrt(
        variance / N
    )


def counts_fit(drawn: np.ndarray, distribution: Any) -> None:
    """How often each number came is what `log_prob` says, by a sum of squares."""
    often = np.bincount(drawn.astype(np.int64))
    numbers = gradient.arange(len(often), dtype=gradient.float64)
    expected = distribution.log_prob(numbers).exp().numpy() * N
    seen = expected > 10
    squares = ((often - expected) ** 2 / expected)[seen].sum()
    assert squares < seen.sum() + 5 * math.sqrt(2 * seen.sum())


@pytest.mark.parametrize("rate", [0.0, 0.01, 3.0, 9.99, 10.0, 60.0, 1e6, 1e12])
def test_poisson(rate: float) -> None:
    drawn = gradient.poisson(gradient.full((N,), rate, dtype=gradient.float64)).numpy()  # type: ignore[attr-defined]
    moments_fit(drawn, rate, rate)
    if 0 < rate < 100:
        counts_fit(drawn, d.Poisson(gradient.tensor(rate, dtype=gradient.float64)))


@pytest.mark.parametrize(
    ("count", "prob"),
    [(0, 0.5), (5, 0.3), (5, 0.0), (5, 1.0), (25, 0.4), (100, 0.05), (100, 0.9), (10**9, 0.4)],
)
def test_binomial(count: int, prob: float) -> None:
    n, p = (gradient.full((N,), float(v), dtype=gradient.float64) for v in (count, prob))
    drawn = gradient.binomial(n, p).numpy()  # type: ignore[attr-defined]
    moments_fit(drawn, count * prob, count * prob * (1 - prob))
    assert drawn.min() >= 0 and drawn.max() <= count
    if 0 < count < 1000 and 0 < prob < 1:
        counts_fit(drawn, d.Binomial(count, gradient.tensor(prob, dtype=gradient.float64)))


def test_means_of_all_sizes_at_once() -> None:
    rates = gradient.tensor([0.0, 5.0, 500.0], dtype=gradient.float64).expand(N, 3)
    drawn = gradient.poisson(rates).numpy()  # type: ignore[attr-defined]
    for column, rate in zip(drawn.T, (0.0, 5.0, 500.0), strict=True):
        moments_fit(column, rate, rate)
    assert (drawn == np.floor(drawn)).all()


def test_a_generator_repeats_them() -> None:
    rates = gradient.tensor([3.0, 80.0])
    first, second = (
        gradient.poisson(rates, generator=gradient.Generator().manual_seed(4)).tolist()  # type: ignore[attr-defined]
        for _ in range(2)
    )
    assert first == second


def test_of_endlessly_many_coins_all_or_none_are_1() -> None:
    count = gradient.tensor([math.inf, math.inf, math.inf, math.inf, 5.0])
    drawn = gradient.binomial(count, gradient.tensor([1.0, 2.0, 0.0, 0.5, 1.0])).tolist()  # type: ignore[attr-defined]
    assert drawn[:3] + drawn[4:] == [math.inf, math.inf, 0.0, 5.0] and math.isnan(drawn[3])
