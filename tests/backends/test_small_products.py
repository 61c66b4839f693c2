"""Small products, for which eager execution and plans take NumPy's quicker function."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import backends
from gradient.errors import ShapeError
from gradient.plan import record
from gradient.plan.executors import CpuExecutor

pytestmark = pytest.mark.cpu_only

SIZES = (0, 1, 2, 3, 7, 64)

BATCHES = {
    "one right matrix": ((5, 7, 16), (16, 9)),
    "one right matrix, large": ((5, 70, 160), (160, 90)),
    "of columns and one row": ((64, 12, 1), (1, 128)),
    "of columns and rows": ((40, 3, 8, 1), (3, 1, 5)),
    "of no rows": ((0, 7, 16), (16, 9)),
    "over nothing": ((5, 7, 0), (0, 9)),
}
"""Shapes of batches that are not multiplied matrix by matrix."""


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", BATCHES)
def test_of_batches_and_of_their_plans(case: str, dtype: str):
    a, b = (gradient.randn(*shape, dtype=dtype) for shape in BATCHES[case])
    expected = np.matmul(a.numpy().astype(np.float64), b.numpy())
    np.testing.assert_allclose((a @ b).numpy(), expected, rtol=1e-4, atol=1e-5)
    turned = a.transpose(0, 1).contiguous().transpose(0, 1)
    np.testing.assert_allclose((turned @ b).numpy(), expected, rtol=1e-4, atol=1e-5)
    recording = record(lambda: a @ b)
    outputs = tuple(ref for _, ref in recording.survivors)
    (replayed,) = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True).run([], {})
    assert replayed.tobytes() == recording.result.numpy().tobytes()


def test_of_batches_refuse_shapes_that_only_an_elementwise_product_has():
    a = gradient.ones(3, 4, 1)
    with pytest.raises(ShapeError, match="matmul"):
        a @ gradient.ones(4, 5)
    with pytest.raises(ShapeError, match="matmul"):
        a @ gradient.ones(3, 4, 5)


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
