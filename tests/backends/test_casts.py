"""Casts of large float arrays by kernels: NumPy's and ml_dtypes' bits, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import casts, filling, kernels
from gradient.dtypes import bfloat16, float16, float32

pytestmark = pytest.mark.cpu_only

be: Any = backends.get("cpu")

HALVES = [d for d in (bfloat16.numpy, float16.numpy) if kernels.computes(d)]
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "in parts": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "0-d": lambda x: x[3, 4].reshape(()),
    "empty": lambda x: x[:0],
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(casts, "LARGE", 0)


def every_kind() -> np.ndarray:
    """Numbers of all sizes, and those halfway between two of 16 bits."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, (67, 41), np.uint32)
    x = bits.view(np.float32)
    x[0, :12] = 0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-45, 3.4e38, 65504, 65520, 1e-8, 1.0, -1.5
    x[1:9] = (bits[1:9] & 0xFFFF0000 | 0x8000).view(np.float32)
    x[9:17] = (bits[9:17] & 0xFFFFE000 | 0x1000).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("half", HALVES, ids=str)
def test_casts_are_those_of_numpy(half: np.dtype, layout: str) -> None:
    x = LAYOUTS[layout](every_kind())
    with np.errstate(all="ignore"):
        narrow = x.astype(half)
        got = be.astype(x, half)
    assert got.dtype == half
    assert got.shape == x.shape
    assert got.strides == narrow.strides
    np.testing.assert_array_equal(got.view(np.uint16), narrow.view(np.uint16))
    wide = be.astype(narrow, float32.numpy)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide.view(np.uint32), narrow.astype("f").view(np.uint32))


def test_a_cast_is_no_view() -> None:
    x = np.ones((8, 8), np.float32)
    x.flags.writeable = False
    for half in HALVES:
        got = be.astype(x, half)
        assert got.flags.writeable
        assert be.astype(got, half) is got


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_one_number_repeated_is_cast_once(half: np.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gradient of a sum is, in memory of its own."""
    monkeypatch.setattr(filling, "MANY_BYTES", 64)
    for number, to in ((np.float32(0.3), half), (half.type(0.3), float32.numpy)):
        x = np.broadcast_to(np.asarray(number), (5, 300))
        got = be.astype(x, to)
        assert got.dtype == to and got.flags.c_contiguous and got.flags.writeable
        np.testing.assert_array_equal(got.astype("f"), x.astype(to).astype("f"))
