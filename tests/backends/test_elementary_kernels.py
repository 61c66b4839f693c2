"""Kernels of elementary functions: NumPy's numbers, also of the edges, and the same in a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.numpy import elementary, kernels, threads

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there is no numba")

EXACT = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint, "sqrt": np.sqrt}
NEAR = {"log": np.log, "sin": np.sin, "cos": np.cos}
EDGES = [0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1, -1, np.inf, -np.inf, np.nan, 2.0**20 + 0.5, 1e38]


def numbers(dtype: str) -> np.ndarray:
    """Of all exponents, and moderate ones, and multiples of pi / 2."""
    draws = np.random.default_rng(0)
    bits = f"u{np.dtype(dtype).itemsize}"
    every = draws.integers(0, np.iinfo(bits).max, 20_000, bits).view(dtype)
    usual = 100 * draws.standard_normal(20_000)
    turns = np.arange(1, 20_000) * (np.pi / 2)
    return np.concatenate([every, usual, turns, np.tile(EDGES, 5), EDGES]).astype(dtype)


def computed(name: str, *arrays: np.ndarray) -> np.ndarray:
    out = np.empty_like(arrays[0])
    getattr(kernels.load("elementary"), name)(0, out.size, *arrays, out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_of_numpy(dtype: str) -> None:
    x = numbers(dtype)
    for name, function in EXACT.items():
        y, expected = computed(name, x), function(x)
        assert np.array_equal(y, expected, equal_nan=True)
        known = ~np.isnan(y)
        assert (np.signbit(y) == np.signbit(expected))[known].all()
    wide = x.astype(np.longdouble)
    for name, function in NEAR.items():
        if name in elementary.OF_FLOAT64 and dtype == "float32":
            continue
        exact = function(wide)
        y, nearest = computed(name, x), exact.astype(dtype)
        rounded = np.isfinite(nearest)
        assert np.array_equal(y[~rounded], nearest[~rounded], equal_nan=True)
        apart = abs(y - exact)[rounded] / np.spacing(abs(nearest[rounded]))
        assert apart.max() <= (2 if dtype == "float64" else 1)
        assert (np.signbit(y) == np.signbit(nearest))[rounded].all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_pairs_of_numpy(dtype: str) -> None:
    x = numbers(dtype)
    edges = np.array(EDGES, dtype)
    pairs = [(x, x[::-1].copy()), tuple(v.ravel() for v in np.meshgrid(edges, edges))]
    be = gradient.zeros(1).backend
    for a, b in pairs:
        a, b = (np.tile(v, -(-(1 << 16) // v.size)) for v in (a, b))
        for name, function in (("copysign", np.copysign), ("nextafter", np.nextafter)):
            y, expected = getattr(be, name)(a, b), function(a, b)
            assert np.array_equal(y, expected, equal_nan=True)
            known = ~np.isnan(y)
            assert (np.signbit(y) == np.signbit(expected))[known].all()
        exact = np.hypot(a.astype(np.longdouble), b.astype(np.longdouble))
        y, nearest = be.hypot(a, b), exact.astype(dtype)
        rounded = np.isfinite(nearest)
        assert np.array_equal(y[~rounded], nearest[~rounded], equal_nan=True)
        apart = abs(y - exact)[rounded] / np.spacing(nearest[rounded])
        assert apart.max() <= 1.5


def test_large_arrays_go_to_kernels() -> None:
    names: list[str] = []
    x = gradient.rand(300, 300)

    def launched(call: Any) -> list[str]:
        names.clear()
        with threads.listening(lambda kernel, *_: names.append(kernel.__name__)):
            call()
        return names

    for name in sorted(elementary.OF_ONE - elementary.OF_FLOAT64):
        assert launched(getattr(x, name)) == [name]
    assert launched(x.double().exp) == ["exp_of"]
    assert launched(x.double().sin) == ["sin"]
    assert launched(x.sin) == []
    assert launched(lambda: x.hypot(x)) == ["hypot"]
    assert launched(x[:9].log) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plans_have_the_bits_of_eager_mode(dtype: str) -> None:
    x = (gradient.rand(300, 300) * 9 + 0.1).to(getattr(gradient, dtype))

    def step(x: Any) -> Any:
        y = x.log().sin() + x.exp().log().cos() * (x * 3).trunc().sqrt()
        return gradient.fmod(y.floor() + gradient.erf(y), 0.7) + (x % 0.3) + gradient.lgamma(x)

    compiled = gradient.compile(step)
    for _ in range(6):  # the first are eager
        assert gradient.equal(compiled(x), step(x))
