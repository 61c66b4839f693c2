"""Kernels of special functions: all exponents, the edges, and what is next to a number, which must
not change its result."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.numpy import kernels, threads
from support.array_backends import BareBackend

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there is no numba")

BARE: Any = BareBackend()
DEFAULTS: dict[str, Any] = {
    **{
        name: getattr(BARE, name) for name in ("erf", "erfc", "erfcx", "erfinv", "ndtr", "log_ndtr")
    },
    **{name: getattr(BARE, name) for name in ("ndtri", "lgamma", "digamma")},
    "trigamma": lambda x: BARE.polygamma(x, 1),
    **{f"i{n}": lambda x, n=n: BARE.bessel_i(x, n) for n in range(3)},
    **{f"i{n}e": lambda x, n=n: BARE.bessel_ie(x, n) for n in range(3)},
}
EDGES = [
    0,
    -0.0,
    1,
    -1,
    0.5,
    -0.5,
    2,
    -2,
    3,
    -3,
    8,
    -8,
    9,
    27,
    100,
    700,
    1e20,
    -1e20,
    1e-20,
    -1e-20,
]


def special(name: str, x: np.ndarray) -> np.ndarray:
    family = kernels.load("special")
    kernel = getattr(family, name, None) or getattr(family, f"{name}{x.itemsize}")
    out = np.empty_like(x)
    kernel(0, x.size, x, out)
    return out


def every_float32(step: int) -> np.ndarray:
    """Of all float32 numbers every `step`-th."""
    return np.arange(0, 1 << 32, step, np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", DEFAULTS)
def test_float32_is_the_rounded_float64(name: str) -> None:
    x = every_float32(20011)
    y = special(name, x)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = special(name, x.astype(np.float64)).astype(np.float32)
    assert (np.isnan(y) == np.isnan(exact)).all()
    known = ~np.isnan(y)
    y, exact = y[known], exact[known]
    assert (np.signbit(y) == np.signbit(exact)).all()
    apart = abs(y.view(np.int32).astype(np.int64) - exact.view(np.int32))
    assert apart.max() <= {"erf": 1, "erfinv": 2}.get(name, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFAULTS)
def test_edges_are_those_of_the_default(name: str, dtype: str) -> None:
    limits = np.finfo(dtype)
    further = [math.inf, math.nan, 1 - limits.epsneg, limits.max, limits.tiny]
    x = np.array([*EDGES, *further, *(-v for v in further)], dtype)
    with np.errstate(all="ignore"):
        expected = DEFAULTS[name](x)
    y = special(name, x)
    # The default rounds each step to float32.
    np.testing.assert_allclose(y, expected, 1e-12 if dtype == "float64" else 1e-5, 0)
    assert (np.signbit(y) == np.signbit(expected))[~np.isnan(y)].all()


def assert_ulps(y: np.ndarray, expected: list[float], most: float) -> None:
    wanted = np.array(expected)
    apart = abs(y - wanted) / np.spacing(abs(wanted))
    assert apart.max() <= most


def test_float64_is_within_a_few_ulps() -> None:
    draws = np.random.default_rng(0)
    sizes = np.exp(draws.uniform(math.log(1e-300), math.log(26), 4000))
    x = np.concatenate([sizes, -sizes, draws.uniform(-6, 6, 4000)])
    assert_ulps(special("erf", x), [math.erf(v) for v in x], 3)
    assert_ulps(special("erfc", x), [math.erfc(v) for v in x], 6)
    above = np.concatenate([sizes, np.exp(draws.uniform(3, 700, 1000))])
    above = above[(abs(above - 1) > 0.1) & (abs(above - 2) > 0.1)]
    # Python's own is only so near.
    np.testing.assert_allclose(special("lgamma", above), [math.lgamma(v) for v in above], 2e-14)
    p = np.concatenate([draws.uniform(0, 1, 4000), np.exp(draws.uniform(-700, -1, 4000))])
    p = p[abs(p - 0.5) > 0.05]
    assert_ulps(special("ndtri", p), [NormalDist().inv_cdf(v) for v in p], 8)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_bessel_functions_are_their_power_series(order: int) -> None:
    x = np.linspace(0.1, 30, 600)
    terms = range(60)
    expected = [
        math.fsum((v / 2) ** (2 * k + order) / math.factorial(k) / math.factorial(k + order)
                  for k in terms)
        for v in x
    ]  # fmt: skip
    assert_ulps(special(f"i{order}", x), expected, 8)
    np.testing.assert_allclose(special(f"i{order}e", x), expected * np.exp(-x), 2e-15)


def test_digamma_and_trigamma_recur() -> None:
    x = np.concatenate([np.linspace(0.01, 40, 4000), np.linspace(-7.97, -0.02, 1000)])
    for name, rest in (("digamma", 1 / x), ("trigamma", -1 / x**2)):
        np.testing.assert_allclose(special(name, x) + rest, special(name, x + 1), 1e-11, 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_result_does_not_depend_on_its_neighbours(name: str, dtype: str) -> None:
    draws = np.random.default_rng(1)
    x = draws.uniform(0.01, 0.98, 1000).astype(dtype)
    beside = x.copy()
    beside[::50] = np.array([-2.5, 0.9999, 30, math.nan], dtype)[np.arange(20) % 4]
    same = x == beside
    assert (special(name, x)[same] == special(name, beside)[same]).all()


# Calls --------------------------------------------------------------------------------------------


def launched(call: Any) -> list[str]:
    names: list[str] = []
    with threads.listening(lambda kernel, *_: names.append(kernel.__name__)):
        call()
    return names


def test_large_arrays_go_to_kernels() -> None:
    x = gradient.rand(70, 90) + 0.1
    assert launched(lambda: gradient.erf(x)) == ["erf4"]
    assert launched(lambda: gradient.lgamma(x.double())) == ["lgamma"]
    assert launched(lambda: gradient.polygamma(1, x)) == ["trigamma"]
    assert launched(lambda: gradient.special.i1e(x)) == ["i1e"]
    assert "erf4" in launched(lambda: gradient.erf(x.bfloat16()))
    assert launched(lambda: gradient.erf(x[:1])) == []


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_layouts_and_dtypes(dtype: str) -> None:
    x = gradient.randn(60, 90).to(getattr(gradient, dtype))
    for function in (gradient.erf, gradient.special.ndtr, gradient.special.i0e):
        whole = function(x)
        assert whole.dtype == x.dtype
        for given in (x.T, x[:, ::2], x.flip(0)):
            y = function(given)
            expected = gradient.cat([function(row[None]) for row in given])  # small: the default
            assert (y.shape, y.dtype) == (given.shape, x.dtype)
            eps = gradient.finfo(x.dtype).eps
            assert gradient.allclose(y.double(), expected.double(), rtol=4 * eps, atol=4 * eps)
        assert function(x.T).stride() == x.T.stride()
    out = gradient.empty_like(x)
    assert gradient.erf(x, out=out) is out and gradient.equal(out, gradient.erf(x))
