"""Zeros keep their signs where PyTorch keeps them, bit by bit: rectifiers, bounds, remainders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

VALUES = [-0.0, 0.0, -1.5, 1.5, float("nan"), float("inf"), -float("inf")]
CASES: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda t, x: t.relu(x),
    "relu_": lambda t, x: x.clone().relu_(),
    "relu6": lambda t, x: t.nn.functional.relu6(x),
    "hardtanh": lambda t, x: t.nn.functional.hardtanh(x, -0.0, 1.0),
    "hardtanh up to 0": lambda t, x: t.nn.functional.hardtanh(x, -1.0, 0.0),
    "threshold": lambda t, x: t.nn.functional.threshold(x, -0.0, 0.0),
    "leaky_relu": lambda t, x: t.nn.functional.leaky_relu(x, 0.5),
    "clamp from 0": lambda t, x: x.clamp(min=0),
    "clamp from 0.0": lambda t, x: x.clamp(min=0.0),
    "clamp from -0.0": lambda t, x: x.clamp(min=-0.0),
    "clamp up to 0": lambda t, x: x.clamp(max=0),
    "clamp up to -0.0": lambda t, x: x.clamp(max=-0.0),
    "clamp to [0, 1]": lambda t, x: x.clamp(0, 1),
    "clamp to [-1, 0]": lambda t, x: x.clamp(-1, 0),
    "clamp to [0, -1]": lambda t, x: x.clamp(0, -1),
    "remainder by 3": lambda t, x: x % 3,
    "remainder by -3": lambda t, x: x % -3.0,
    "remainder by 1.5": lambda t, x: x.remainder(1.5),
    "remainder by -1.5": lambda t, x: x.clone().remainder_(-1.5),
    "remainder of -0.0": lambda t, x: -0.0 % x,
    "remainder of 3": lambda t, x: 3 % x,
    "remainder of two": lambda t, x: x % x.flip(0),
    "fmod by -1.5": lambda t, x: x.fmod(-1.5),
    "clamp_ from 0": lambda t, x: x.clone().clamp_(min=0),
}


@pytest.mark.parametrize("times", [1, 9, 1 << 13], ids=["few", "some", "many"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_a_zero_keeps_its_sign(case: str, dtype: str, times: int) -> None:
    def bits(t: Any) -> Any:
        x = t.tensor(VALUES * times).to(getattr(t, dtype))
        y = CASES[case](t, x).to(t.float64).numpy()
        return np.where(np.isnan(y), 9.0, y).view(np.int64)

    np.testing.assert_array_equal(bits(gradient), bits(torch))
