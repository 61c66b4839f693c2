"""`linear` with a 16-bit weight on the CPU: the kernel that widens the weight in registers."""

from __future__ import annotations

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import linear
from gradient.dtypes import bfloat16, float16

pytestmark = pytest.mark.cpu_only

DTYPES = pytest.mark.parametrize("dtype", [bfloat16.numpy, float16.numpy], ids=str)


def draw(rng: np.random.Generator, dtype: np.dtype, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32).astype(dtype)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def numba() -> None:
    pytest.importorskip("numba")


@DTYPES
@pytest.mark.parametrize("k", [16, 17, 31, 32, 67, 768])
@pytest.mark.parametrize("n", [1024, 1031])
def test_product_is_rounded_once(dtype: np.dtype, n: int, k: int, rng: np.random.Generator) -> None:
    x, weight, bias = draw(rng, dtype, 9, k), draw(rng, dtype, n, k), draw(rng, dtype, n)
    assert linear._supported(weight, x, bias)
    got = backends.get("cpu").linear(x, weight, bias).astype(np.float64)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias.astype(np.float64)
    # Half a unit in the last place, and what the float32 sums of k products may be off.
    terms = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    unit = 2.0**-8 if dtype == bfloat16.numpy else 2.0**-11
    assert (np.abs(got - exact) <= unit * np.abs(exact) + k * 2.0**-24 * terms).all()


@DTYPES
@pytest.mark.parametrize("shape", [(512, 2048), (1031, 83)])
def test_rows_do_not_depend_on_their_number(
    dtype: np.dtype, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    be = backends.get("cpu")
    weight, x = draw(rng, dtype, *shape), draw(rng, dtype, 137, shape[1])
    together = be.linear(x, weight)
    for start, count in [(0, 1), (5, 2), (7, 3), (20, 4), (1, 5), (3, 11), (40, 97)]:
        some = slice(start, start + count)
        np.testing.assert_array_equal(be.linear(x[some], weight), together[some])
    np.testing.assert_array_equal(be.linear(x[0], weight), together[0])


@DTYPES
def test_neighbouring_rows_do_not_leak(dtype: np.dtype, rng: np.random.Generator) -> None:
    """The last, partial vector of a row must not read the next row's numbers."""
    weight, x = draw(rng, dtype, 600, 37), draw(rng, dtype, 5, 37)
    expected = backends.get("cpu").linear(x, weight)
    weight[1::2], x[1::2] = np.nan, np.inf
    got = backends.get("cpu").linear(x, weight)
    np.testing.assert_array_equal(got[::2, ::2], expected[::2, ::2])
    assert np.isnan(got[:, 1::2]).all()


@DTYPES
def test_other_layouts_are_left_to_the_default(dtype: np.dtype, rng: np.random.Generator) -> None:
    weight, x = draw(rng, dtype, 256, 128), draw(rng, dtype, 2, 128)
    expected = backends.get("cpu").linear(x, weight).astype(np.float32)
    for other in (np.asfortranarray(weight), np.repeat(weight, 2, 0)[::2]):
        assert not linear._supported(other, x, None)
        got = backends.get("cpu").linear(x, other).astype(np.float32)
        np.testing.assert_allclose(got, expected, rtol=2.0**-7, atol=1e-2)
    assert linear._supported(weight, x[:, ::-1], None)  # rows of x are copied anyway
