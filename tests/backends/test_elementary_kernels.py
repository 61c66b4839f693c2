"""Kernels of elementary functions: NumPy's numbers, also of the edges, and the same in a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.numpy import elementary, kernels, threads
from gradient.dtypes import bfloat16

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there is no numba")

EXACT = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint, "sqrt": np.sqrt}
NEAR = {"log": np.log, "sin": np.sin, "cos": np.cos}
NARROW = ("float16", "bfloat16")
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
    narrow = {name: getattr(np, name) for name in elementary.UP_TO_FLOAT32}
    for name, function in (NEAR | (narrow if dtype == "float32" else {})).items():
        exact = function(wide)
        y, nearest = computed(name, x), exact.astype(dtype)
        rounded = np.isfinite(nearest)
        assert np.array_equal(y[~rounded], nearest[~rounded], equal_nan=True), name
        apart = abs(y - exact)[rounded] / np.spacing(abs(nearest[rounded]))
        limit = 0.51 if dtype == "float32" and name != "log" else 2 if dtype == "float64" else 1
        assert apart.max() <= limit, name
        assert (np.signbit(y) == np.signbit(nearest))[rounded].all(), name


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_16_bits_are_computed_in_float32(dtype: str) -> None:
    """Of every number there is; NumPy's of float32 is at most a number from ours before both are
    rounded, which seldom makes neighbours of them."""
    half = np.dtype(np.float16) if dtype == "float16" else bfloat16.numpy
    x = np.arange(1 << 16, dtype=np.uint16).view(half)
    be = gradient.zeros(1).backend
    for name in sorted(elementary.EVERY | {"sign"}):
        y = getattr(be, name)(x)
        function = {"round": np.rint}.get(name) or getattr(np, name)
        expected = function(x.astype(np.float64)).astype(np.float32)
        if name == "sign":
            expected = np.nan_to_num(expected)
        assert y.dtype == half
        expected = expected.astype(half)
        same = (y == expected) | ((y != y) & (expected != expected))
        assert same.mean() > (0.999 if name in elementary.EVERY - EXACT.keys() else 0.99999), name
    for name in ("maximum", "minimum", "copysign"):
        other = np.roll(x, 12345)
        y = getattr(be, name)(x, other)
        expected = getattr(np, name)(x.astype(np.float32), other.astype(np.float32)).astype(half)
        assert y.dtype == half
        assert np.array_equal(y.astype(np.float32), expected.astype(np.float32), equal_nan=True)
    for name in ("isnan", "isfinite"):
        assert np.array_equal(getattr(be, name)(x), getattr(np, name)(x.astype(np.float32)))
    for name in ("max", "min"):
        for axis in (None, 0, 1):
            z = np.where(x != x, half.type(0), x).reshape(256, 256)
            y = getattr(be, name)(z, axis)
            expected = getattr(z.astype(np.float32), name)(axis)
            assert y.dtype == half
            assert np.array_equal(np.asarray(y, np.float32), expected)


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

    for name in sorted(elementary.OF_ONE - {"exp"}):
        assert launched(getattr(x, name)) == [name]
    assert launched(x.double().exp) == ["exp_of"]
    assert launched(x.double().log1p) == []
    assert launched(lambda: x.hypot(x)) == ["hypot"]
    assert launched(x[:9].log) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plans_have_the_bits_of_eager_mode(dtype: str) -> None:
    x = (gradient.rand(300, 300) * 9 + 0.1).to(getattr(gradient, dtype))

    def step(x: Any) -> Any:
        y = x.log().sin() + x.exp().log().cos() * (x * 3).trunc().sqrt()
        y = y + x.tan().arctan() * x.log1p() + (x.bfloat16().ceil() * 2).log2()
        return gradient.fmod(y.floor() + gradient.erf(y), 0.7) + (x % 0.3) + gradient.lgamma(x)

    compiled = gradient.compile(step)
    for _ in range(6):  # the first are eager
        assert gradient.equal(compiled(x), step(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_sign_of_minus_zero_is_zero(dtype: str) -> None:
    x = gradient.tensor([-0.0, 0.0, -3.0, float("nan")], dtype=dtype)
    for given in (x, x.expand(1 << 16, 4), x.repeat(1 << 16)):
        found = gradient.sign(given).float().numpy().reshape(-1, 4)
        assert (found == [0, 0, -1, 0]).all() and not np.signbit(found[:, :2]).any()
