"""Weights of classes that are 0, weights that are vectors, rows weighed by how often they come."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from support.both_packages import assert_alike  # noqa: E402

INF = float("inf")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [(0.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 1.0, 0.0)])
@pytest.mark.parametrize("targets", [(0, 1, 2), (0, 0, 0), (-100, 0, 1), (-100, -100, -100)])
def test_classes_of_no_weight(
    targets: tuple[int, ...], weights: tuple[float, ...], smoothing: float, reduction: str
) -> None:
    def loss(t: Any) -> Any:
        x = (t.arange(9.0, dtype=t.float64).reshape(3, 3) / 3).requires_grad_()
        found = t.nn.functional.cross_entropy(
            x, t.tensor(targets), t.tensor(weights).double(), reduction=reduction,
            label_smoothing=smoothing,
        )  # fmt: skip
        return found, t.autograd.grad(found.sum(), x)[0]

    assert_alike(loss)


@pytest.mark.parametrize("target", [0, 1, -100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_impossible_class_of_no_weight(smoothing: float, target: int) -> None:
    """0 times infinity: NaN, unless nothing of the row counts."""
    assert_alike(
        lambda t: t.nn.functional.cross_entropy(
            t.tensor([[1.0, -INF, 0.0]]), t.tensor([target]), t.tensor([1.0, 0.0, 2.0]),
            reduction="sum", label_smoothing=smoothing,
        )
    )  # fmt: skip


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("size", [(3,), (2, 2, 3), (0, 2, 3), (64, 70, 3), (2, 3)])
def test_linear_by_a_vector(size: tuple[int, ...], biased: bool) -> None:
    if biased and len(size) == 2:
        pytest.skip("PyTorch refuses a bias beside a matrix alone")

    def product(t: Any) -> Any:
        x = t.ones(size, dtype=t.float64, requires_grad=True)
        w = t.arange(3.0, dtype=t.float64).requires_grad_()
        b = t.tensor(2.0, dtype=t.float64, requires_grad=True)
        y = t.nn.functional.linear(x, w, b if biased else None)
        return y, t.autograd.grad(y.sum(), [x, w, b] if biased else [x, w])

    assert_alike(product)


@pytest.mark.parametrize("bias", [(1,), (2,)])
def test_linear_by_a_vector_takes_no_vector_as_bias(bias: tuple[int, ...]) -> None:
    assert_alike(lambda t: t.nn.functional.linear(t.ones(2, 3), t.ones(3), t.ones(bias)))


@pytest.mark.parametrize("padding", [None, 1, -1])
def test_rows_scaled_by_frequency(padding: int | None) -> None:
    def look_up(t: Any) -> Any:
        weight = t.arange(8.0, dtype=t.float64).reshape(4, 2).requires_grad_()
        y = t.nn.functional.embedding(
            t.tensor([[0, 1, 1], [2, 1, 0]]), weight, padding, scale_grad_by_freq=True
        )
        return y, t.autograd.grad((y * t.arange(6.0).reshape(3, 2)).sum(), weight)[0]

    assert_alike(look_up)
