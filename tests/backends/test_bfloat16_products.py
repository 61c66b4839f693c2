"""Products of bfloat16 matrices by the kernel for tiles of the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.numpy import bfloat16_products, kernels, threads
from gradient.dtypes import bfloat16
from support.array_backends import BareBackend

pytestmark = pytest.mark.cpu_only

be: Any = backends.get("cpu")

SIZES = [
    *((1, 1, 1), (32, 32, 32), (33, 31, 65), (16, 300, 17), (70, 257, 40), (6, 2, 200)),
    *((150, 520, 64), (31, 1000, 9), (300, 33, 290)),
]
"""Rows, k and columns: whole panels and steps, parts of them, one block and several."""


def in_parts(x: np.ndarray) -> np.ndarray:
    """Every other row and third column of a larger array; what lies between is NaN."""
    large = np.full((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), np.nan, x.dtype)
    large[..., ::2, ::3] = x
    return large[..., ::2, ::3]


def in_rows(x: np.ndarray) -> np.ndarray:
    """The last columns of a larger array, whose others are NaN."""
    large = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, x.dtype)
    large[..., 3:] = x
    return large[..., 3:]


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def transposed(layout: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: layout(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: x,
    "transposed": transposed(lambda x: x),
    "in parts": in_parts,
    "in rows": in_rows,
    "in columns": transposed(in_rows),
    "backwards": lambda x: x[..., ::-1, :].copy()[..., ::-1, :],
    "read-only": read_only,
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has small products go to the kernel too, in small blocks."""
    if not kernels.available() or kernels.load("cpu").PATH != "amx":
        pytest.skip("this processor has no tiles")
    monkeypatch.setattr(bfloat16_products, "FEW_PRODUCTS", 0)


@pytest.fixture
def pool() -> Iterator[Callable[[int], None]]:
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32).astype(bfloat16.numpy)


def check(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    a, b = a.astype(np.float64), b.astype(np.float64)
    exact, terms = a @ b, np.abs(a) @ np.abs(b)
    assert got.dtype == bfloat16.numpy
    error = 2.0**-8 * np.abs(exact) + a.shape[-1] * 2.0**-24 * terms
    assert (np.abs(got.astype(np.float64) - exact) <= error).all()


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layouts(sizes: tuple[int, int, int], first: str, second: str, rng: Any) -> None:
    m, k, n = sizes
    a, b = LAYOUTS[first](draw(rng, m, k)), LAYOUTS[second](draw(rng, k, n))
    assert bfloat16_products.takes(a, b)
    check(be.matmul(a, b), a, b)


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, rng: Any) -> None:
    a, b = draw(rng, 170, 520), draw(rng, 200, 520)
    expected = be.matmul(a, b.T)
    monkeypatch.setattr(bfloat16_products, "BLOCK_ROWS", 64)
    monkeypatch.setattr(bfloat16_products, "BLOCK_COLUMNS", 96)
    assert be.matmul(a, b.T).tobytes() == expected.tobytes()
    assert be.matmul(a[5:90], b[9:75].T).tobytes() == expected[5:90, 9:75].tobytes()
    assert be.linear(a[:7], b).tobytes() == expected[:7].tobytes()  # which another kernel takes


@pytest.mark.parametrize("number", [1, 2, 3])
def test_threads_do_not_change_a_bit(
    number: int, pool: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, rng: Any
) -> None:
    monkeypatch.setattr(bfloat16_products, "BLOCK_PRODUCTS", 1 << 12)
    a, b = draw(rng, 2, 150, 300), draw(rng, 300, 170)
    pool(1)
    expected = be.matmul(a, b)
    pool(number)
    for _ in range(20):
        assert be.matmul(a, b).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 20, 30), (3, 30, 40)), ((20, 30), (3, 30, 40)), ((3, 20, 30), (30, 40)),
        ((2, 1, 20, 30), (3, 30, 40)), ((1, 20, 30), (4, 1, 30, 40)), ((2, 3, 5, 7), (2, 1, 7, 5)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches(a: tuple[int, ...], b: tuple[int, ...], layout: str, rng: Any) -> None:
    x, y = LAYOUTS[layout](draw(rng, *a)), LAYOUTS[layout](draw(rng, *b))
    assert bfloat16_products.takes(x, y)
    check(be.matmul(x, y), x, y)


def test_heads_and_expanded_arrays(rng: Any) -> None:
    q = draw(rng, 2, 30, 4, 16)  # as attention splits its heads
    x, y = q.transpose(0, 2, 1, 3), q.transpose(0, 2, 3, 1)
    check(be.matmul(x, y), x, y)
    same = np.broadcast_to(draw(rng, 20, 16), (5, 20, 16))
    other = np.broadcast_to(bfloat16.numpy.type(3), (5, 16, 8))
    check(be.matmul(same, other), same, other)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [100, 130, 700])
def test_linear_of_many_rows(rows: int, bias: bool, rng: Any) -> None:
    x, weight, added = draw(rng, 2, rows, 67), draw(rng, 131, 67), draw(rng, 131)
    got = be.linear(x, weight, added if bias else None).astype(np.float64)
    wide = [each.astype(np.float64) for each in (x, weight, added)]
    exact = wide[0] @ wide[1].T + (wide[2] if bias else 0)
    terms = np.abs(wide[0]) @ np.abs(wide[1]).T + np.abs(wide[2])
    assert (np.abs(got - exact) <= 2.0**-8 * np.abs(exact) + 69 * 2.0**-24 * terms).all()


def test_gradients_of_a_linear_layer(rng: Any) -> None:
    x, weight, g = draw(rng, 3, 50, 67), draw(rng, 131, 67), draw(rng, 3, 50, 131)
    check(be.linear_input_grad(g, weight), g, weight)
    check(be.linear_weight_grad(g, x), g.reshape(150, 131).T, x.reshape(150, 67))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 3e38, 1e-40])
@pytest.mark.parametrize("place", [0, 31, 32, 68])
def test_special_numbers(special: float, place: int, rng: Any) -> None:
    """They stay in their row and column; numbers below 2^-126 count as zeros."""
    a, b = draw(rng, 70, 69), draw(rng, 69, 75)
    a[41, place], b[place, 50] = special, special
    b[place, 3] = 0
    with np.errstate(all="ignore"):
        expected = BareBackend().matmul(a, b)
        np.testing.assert_allclose(
            be.matmul(a, b).astype("f"), expected.astype("f"), rtol=1e-2, atol=1e-2
        )


def test_no_elements() -> None:
    for a, b in (((0, 5), (5, 7)), ((5, 0), (0, 7)), ((5, 7), (7, 0)), ((0, 3, 4), (4, 5))):
        x, y = np.zeros(a, bfloat16.numpy), np.ones(b, bfloat16.numpy)
        got = be.matmul(x, y)
        assert got.shape == (*a[:-1], b[-1])
        assert got.dtype == bfloat16.numpy
        assert not got.any()


def test_what_is_left_to_others(rng: Any) -> None:
    a, b = draw(rng, 30, 40), draw(rng, 40, 20)
    assert bfloat16_products.takes(a, b)
    assert not bfloat16_products.takes(a, b.astype(np.float32))
    assert not bfloat16_products.takes(a.astype(np.float16), b.astype(np.float16))
    assert not bfloat16_products.takes(a, b[1:])
    assert not bfloat16_products.takes(a[0], b)
    with pytest.raises(RuntimeError, match="matmul"):
        gradient.tensor(a) @ gradient.tensor(b[1:])
