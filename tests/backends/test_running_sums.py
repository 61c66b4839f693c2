"""Running sums of rows by the kernel that adds up eight numbers at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import threads

pytestmark = pytest.mark.cpu_only
pytest.importorskip("numba")

SHAPES = [(1, 20000), (70, 300), (3, 5461), (5, 4097), (4099, 7), (2048, 8)]

be: Any = backends.get("cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def draw(shape: tuple[int, int], dtype: str) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def in_order(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.cumsum(x.astype(np.float64), -1).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_running_sums_of_rows(shape: tuple[int, int], backward: bool, dtype: str) -> None:
    x = draw(shape, dtype)
    x[0, :3], x[-1, -2] = (-0.0, np.inf, 1), np.nan
    if shape[0] > 2:
        x[1, 2], x[1, -1] = -np.inf, np.inf
    x = x[:, ::-1] if backward else x
    want = in_order(x)
    found = be.cumsum(x, -1)
    assert np.allclose(found, want, 2e-7, 1e-9, equal_nan=True)
    assert (found[:, ::-1] if backward else found).flags.c_contiguous


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_depend_neither_on_threads_nor_on_other_rows(shape: tuple[int, int]) -> None:
    x = draw(shape, "f4")
    found = []
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        found.append(be.cumsum(x, -1).tobytes())
    assert found[0] == found[1] == found[2]
    others = np.concatenate([x[-1:], draw((1 + (1 << 14) // shape[1], shape[1]), "f4")])
    assert (be.cumsum(others, -1)[0] == be.cumsum(x, -1)[-1]).all()


def test_float64_sums_that_overflow_do_so_in_order() -> None:
    x = np.zeros((1, 1 << 14))
    x[0, :3] = 1e308, 1e308, -1e308
    assert be.cumsum(x, -1)[0, :3].tolist() == [1e308, np.inf, np.inf]
