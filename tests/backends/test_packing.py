"""The kernels that search for the scales of k-quants: the definition's results to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradient import backends
from gradient.dtypes import BlockDType, q2_k, q3_k, q4_k, q5_k, q6_k
from gradient.errors import ArgumentError

pytestmark = pytest.mark.cpu_only

BLOCKS = 67
"""No multiple of any vector's lanes, and enough for kernels to take them."""
RNG = np.random.default_rng

WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda x: x,
    "scales of all sizes": lambda x: x * np.exp(4 * RNG(1).standard_normal((BLOCKS, 1))),
    "zero": np.zeros_like,
    "negative zero": lambda x: -np.zeros_like(x),
    "positive": np.abs,
    "negative": lambda x: -np.abs(x),
    "ties": lambda x: np.rint(2 * x),
    "equal": lambda x: np.full_like(x, 0.3),
    "mostly zero": lambda x: x * (RNG(2).random(x.shape) < 0.05),
    "subnormal": lambda x: x * 1e-40,
    "scales of no digits": lambda x: x * 1e-7,
    "heavy tails": lambda x: RNG(3).standard_cauchy(x.shape).clip(-1e5, 1e5),
}


@pytest.mark.parametrize("dtype", [q2_k, q3_k, q4_k, q5_k, q6_k], ids=lambda d: d.name)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_same_bytes(dtype: BlockDType, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    x = WEIGHTS[weights](RNG(0).standard_normal((BLOCKS, 256))).astype(np.float32)
    (expected,) = dtype.pack(x)
    monkeypatch.setattr(dtype, "pack", None)  # so that it is the kernel which packs
    (got,) = backends.get("cpu").pack(x, dtype)
    np.testing.assert_array_equal(got, expected)


def test_weights_beyond_the_format_are_refused() -> None:
    with pytest.raises(ArgumentError, match="scales in 16 bits"):
        backends.get("cpu").pack(np.full((BLOCKS, 256), 1e30, np.float32), q4_k)
