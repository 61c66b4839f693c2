"""Functions composed of others, where op_db's samples do not reach."""

from __future__ import annotations

import math
from typing import Any

import pytest

import gradient


@pytest.mark.parametrize("name", ["copysign", "hypot", "logaddexp2", "xlogy"])
def test_an_operand_without_dimensions_does_not_widen(name: str):
    x, y = gradient.tensor([1.5]), gradient.tensor(2.0, dtype=gradient.float64)
    assert getattr(x, name)(y).dtype == gradient.float32
    assert getattr(x.bfloat16(), name)(y).dtype == gradient.bfloat16


@pytest.mark.parametrize("dtype", [gradient.bool, gradient.int64])
def test_the_mean_without_nan_is_of_floating_point_numbers(dtype: Any):
    with pytest.raises(gradient.errors.DTypeError, match="nanmean: expected a floating-point"):
        gradient.ones(2).to(dtype).nanmean()


def test_the_median_of_nothing_is_nan():
    assert math.isnan(gradient.zeros(0).nanmedian().item())


@pytest.mark.parametrize("name", ["trapezoid", "cumulative_trapezoid"])
def test_the_trapezoidal_rule_needs_a_dimension(name: str):
    with pytest.raises(IndexError, match=f"{name}: expected at least 1 dimension, got 0"):
        getattr(gradient, name)(gradient.tensor(1.0))


def test_the_trapezoidal_rule_aligns_coordinates_at_the_last_dimension():
    y, x = gradient.arange(8.0).reshape(2, 2, 2), gradient.tensor([[0.0, 1.0], [5.0, 10.0]])
    assert gradient.trapezoid(y, x, dim=1).tolist() == [[5.0, 18.0], [25.0, 54.0]]
    assert gradient.cumulative_trapezoid(y, x, dim=1).shape == (2, 1, 2)


def test_a_sum_of_integers_leaves_nan_out():
    x = gradient.tensor([1.5, math.nan, 2.0])
    assert x.nansum(dtype=gradient.int64).item() == 3
