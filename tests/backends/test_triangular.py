"""Triangular systems and Cholesky decompositions by kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends import get
from gradient.backends.numpy import kernels, threads
from gradient.errors import LinAlgError

pytestmark = pytest.mark.cpu_only
be = get("cpu")
SIZES = [1, 3, 12, 13, 16, 31, 32, 45, 65]


@pytest.fixture(autouse=True)
def small_arrays_go_to_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels.available():
        pytest.skip("there are no kernels")
    monkeypatch.setattr(kernels, "MIN_SIZE", 1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def pool() -> Iterator[Any]:
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


def positive_definite(rng: Any, *batch: int, n: int, dtype: str = "float32") -> np.ndarray:
    x = rng.standard_normal((*batch, n, n + 3)).astype(dtype)
    return x @ x.swapaxes(-1, -2) + np.eye(n, dtype=dtype)


@pytest.mark.parametrize("columns", [1, 2, 16, 33, 70])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_triangular_system_in_every_layout(dtype: str, n: int, columns: int, rng: Any) -> None:
    a = (np.tril(rng.standard_normal((n, n))) / n + 2 * np.eye(n)).astype(dtype)
    b = rng.standard_normal((n, columns)).astype(dtype)
    wide = np.full((n, 2 * n), np.nan, dtype)
    wide[:, ::2] = a
    limit = 2e-5 if dtype == "float32" else 1e-13
    for x, lower in (
        (a, True), (np.asfortranarray(a), True), (wide[:, ::2], True),
        (a.T, False), (np.ascontiguousarray(a.T), False), (wide[:, ::2].T, False),
    ):  # fmt: skip
        found = be.solve_triangular(x, b, lower)
        expected = np.linalg.solve(x.astype(np.float64), b)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=limit, atol=limit)


def test_the_other_triangle_is_not_read(rng: Any) -> None:
    a = np.tril(rng.standard_normal((30, 30), dtype=np.float32)) / 30 + np.eye(30, dtype="f")
    b = rng.standard_normal((30, 20), dtype=np.float32)
    full = np.where(np.tri(30, dtype=bool), a, np.float32(np.nan))
    assert (be.solve_triangular(full, b, True) == be.solve_triangular(a, b, True)).all()
    assert (be.solve_triangular(full.T, b, False) == be.solve_triangular(a.T, b, False)).all()


def test_right_sides_do_not_change_each_other(rng: Any, pool: Any) -> None:
    a = np.tril(rng.standard_normal((50, 50), dtype=np.float32)) / 50 + np.eye(50, dtype="f")
    b = rng.standard_normal((50, 133), dtype=np.float32)
    made = []
    for workers in (1, 2, 3):
        pool(workers)
        made.append(be.solve_triangular(a, b, True))
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()
    assert (be.solve_triangular(a, b[:, 20:47], True) == made[0][:, 20:47]).all()
    b[:, 7], b[3, 9] = np.nan, np.inf
    others = [c for c in range(133) if c not in (7, 9)]
    assert (be.solve_triangular(a, b, True)[:, others] == made[0][:, others]).all()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cholesky_decomposition(dtype: str, n: int, rng: Any, pool: Any) -> None:
    x = positive_definite(rng, 2, 2, n=n, dtype=dtype)
    limit = 1e-4 if dtype == "float32" else 1e-11
    found = be.cholesky(x)
    np.testing.assert_allclose(found, np.linalg.cholesky(x.astype("d")), rtol=limit, atol=limit)
    assert not np.triu(found, 1).any()
    upper = np.where(np.tri(n, dtype=bool), x, np.array(np.nan, dtype))
    for workers in (1, 2, 3):  # only the lower triangle is read
        pool(workers)
        assert be.cholesky(upper).tobytes() == found.tobytes()


@pytest.mark.parametrize("n", [5, 40, 70])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_matrix_without_one_is_an_error(value: float, n: int, rng: Any) -> None:
    x = positive_definite(rng, n=n)
    x[n - 2, n - 2] = value
    with pytest.raises(LinAlgError):
        gradient.linalg.cholesky(gradient.tensor(x))
    x[n - 2, n - 2], x[n - 1, 0] = 1e4, value * 1e6 or np.nan
    with pytest.raises(LinAlgError):
        gradient.linalg.cholesky(gradient.tensor(x))


def test_of_an_infinite_matrix_it_is_the_defaults(rng: Any) -> None:
    x = positive_definite(rng, n=40)
    x[20, 20] = np.inf
    np.testing.assert_array_equal(be.cholesky(x), np.linalg.cholesky(x))


def test_compiled_calls_compute_anew(rng: Any) -> None:
    compiled = gradient.compile(lambda x: gradient.linalg.cholesky(x), fullgraph=True)
    solved = gradient.compile(
        lambda a, b: gradient.linalg.solve_triangular(a, b, upper=False), fullgraph=True
    )
    for _ in range(5):
        x = gradient.tensor(positive_definite(rng, n=70))
        b = gradient.tensor(rng.standard_normal((70, 40), dtype=np.float32))
        lower = gradient.linalg.cholesky(x)
        assert (compiled(x) == lower).all()
        direct = gradient.linalg.solve_triangular(lower, b, upper=False)
        assert (solved(lower, b) == direct).all()
    with pytest.raises(LinAlgError):
        compiled(-x)
