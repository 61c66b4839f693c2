"""Sums of very many numbers: none is lost beside the sum of all before it."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient import Tensor, backends
from gradient.backends.numpy.reductions import LONG, MANY

pytestmark = pytest.mark.cpu_only

ROWS = 300_000
TENTH = float(np.float32(0.1))


def tenths(layout: str) -> Tensor:
    """Rows of two tenths, which float32 adds up one after another to 2e-4 too much."""
    x = gradient.full((ROWS, 3 if layout == "sliced" else 2), 0.1)
    match layout:
        case "sliced":
            return x[:, :2]
        case "transposed":
            return gradient.full((2, ROWS), 0.1).T
        case "expanded":
            return x[:1].expand(ROWS, 2)
        case "reversed":
            return gradient.tensor(np.full((ROWS, 2), 0.1, np.float32)).flip(0)
    return x


@pytest.mark.parametrize("layout", ["contiguous", "sliced", "transposed", "expanded", "reversed"])
def test_columns_add_up(layout: str) -> None:
    x, total = tenths(layout), ROWS * TENTH
    for found in (x.sum(0), x.T.sum(1), x.cumsum(0)[-1], x.nansum(0), x.mean(0) * ROWS):
        np.testing.assert_allclose(found.numpy(), [total, total], rtol=3e-6)


def test_the_middle_and_both_ends_add_up() -> None:
    x = gradient.full((ROWS // 2, 3, 2), 0.1)
    np.testing.assert_allclose(x.sum((0, 2)).numpy(), [ROWS * TENTH] * 3, rtol=3e-6)
    assert x.sum((0, -1), keepdim=True).shape == (1, 3, 1)


def test_a_gradient_that_is_summed_over_rows_adds_up() -> None:
    bias = gradient.zeros(2, requires_grad=True)
    (bias * tenths("sliced")).sum().backward()
    assert bias.grad is not None
    np.testing.assert_allclose(bias.grad.numpy(), [ROWS * TENTH] * 2, rtol=3e-6)


@pytest.mark.parametrize("layout", ["contiguous", "sliced"])
def test_variances_of_many_rows(layout: str) -> None:
    x = gradient.rand(ROWS, 3, generator=gradient.Generator().manual_seed(0)) + 1
    x = x[:, :2] if layout == "sliced" else x
    expected = x.numpy().astype(np.float64).var(0, ddof=1)
    np.testing.assert_allclose(x.var(0).numpy(), expected, rtol=2e-6)
    np.testing.assert_allclose(x.std(0).numpy(), np.sqrt(expected), rtol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_columns_of_other_dtypes_add_up(dtype: str) -> None:
    x = gradient.full((ROWS, 2), 0.0625, dtype=getattr(gradient, dtype))
    expected = gradient.tensor([ROWS / 16] * 2).to(x.dtype)
    assert gradient.equal(x.sum(0), expected)


@pytest.mark.parametrize("n", [LONG - 1, LONG, LONG + 1, 2 * LONG, 9 * LONG + 7])
@pytest.mark.parametrize("columns", [1, 3, 40, 600])
def test_every_row_is_added_once(n: int, columns: int) -> None:
    be = backends.get("cpu")
    whole = np.arange(2 * n * (columns + 1), dtype=np.float64).reshape(2, n, columns + 1)
    for x in (whole, whole[:, :, :columns], np.swapaxes(whole, 0, 2), whole[:, ::-1]):
        assert x.size < MANY or x.shape[1] == n
        for axis in (1, -2, (0, 1), (1, 2), (-2,)):
            for keepdims in (False, True):
                found = be.sum(x, axis, keepdims)
                expected = x.astype(np.int64).sum(axis, keepdims=keepdims)
                np.testing.assert_array_equal(found, expected)  # exact in float64


def test_what_is_not_finite_stays_in_its_column() -> None:
    x = np.ones((40 * LONG + 3, 3), np.float32)
    x[7, 0], x[-1, 1] = np.inf, np.nan
    for layout in (x, np.asfortranarray(x)[::1], np.repeat(x, 2, 1)[:, ::2]):
        found = backends.get("cpu").sum(layout, 0)
        assert found[0] == np.inf
        assert np.isnan(found[1])
        assert found[2] == len(x)
