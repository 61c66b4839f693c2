"""Small products, for which eager execution and plans take NumPy's quicker function."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import backends

pytestmark = pytest.mark.cpu_only

SIZES = (0, 1, 2, 3, 7, 64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_have_the_bits_of_matmul(dtype):
    be, rng = backends.get("cpu"), np.random.default_rng(0)
    for m, k, n in itertools.product(SIZES, repeat=3):
        x, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
        bias = rng.standard_normal(n).astype(dtype)
        for a in (x, np.asfortranarray(x)):
            for b in (w, np.asfortranarray(w)):
                expected = np.matmul(a, b.T)
                for got in (be.matmul(a, b.T), be.linear(a, b)):
                    assert type(got) is np.ndarray and got.tobytes() == expected.tobytes()
                assert be.linear(a, b, bias).tobytes() == (expected + bias).tobytes()


def test_of_a_mapped_file_is_a_plain_array(tmp_path):
    be = backends.get("cpu")
    mapped = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(4, 4))
    mapped[...] = np.arange(16).reshape(4, 4)
    for a, b in itertools.product((mapped, np.array(mapped)), repeat=2):
        for got in (be.matmul(a, b), be.linear(a, b)):
            assert type(got) is np.ndarray
        np.testing.assert_array_equal(be.matmul(a, b), np.array(mapped) @ np.array(mapped))


@pytest.mark.parametrize("part", ["whole", "every other column", "transposed"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_plan_gives_the_same_bits(part):
    numbers = gradient.randn(6, 16)
    numbers[0, 0] = float("inf")
    x = {"whole": numbers, "every other column": gradient.randn(6, 32)[:, ::2],
         "transposed": gradient.randn(16, 6).t()}[part]  # fmt: skip
    w, bias = gradient.randn(5, 16), gradient.randn(5)

    def step(x):
        return x @ w.t(), F.linear(x, w), F.linear(x, w, bias)

    compiled = gradient.compile(step)
    for _ in range(3):
        for got, expected in zip(compiled(x), step(x), strict=True):
            assert got.numpy().tobytes() == expected.numpy().tobytes()
