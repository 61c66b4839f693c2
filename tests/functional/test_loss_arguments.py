"""Dtypes of losses whose arguments differ, weights that are no tensors, and shapes of variances."""

from __future__ import annotations

from typing import Any

import pytest

import gradient
from gradient.errors import DTypeError, ShapeError

F: Any = gradient.nn.functional


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (2, 1, 1), (3, 2), (2, 3, 1), (0, 3)])
def test_gaussian_nll_loss_refuses_a_variance_that_would_broadcast(shape: Any) -> None:
    x, t = gradient.zeros(2, 3), gradient.ones(2, 3)
    with pytest.raises(ShapeError, match="gaussian_nll_loss"):
        F.gaussian_nll_loss(x, t, gradient.ones(shape))


@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 3), (2, 3)])
def test_gaussian_nll_loss_takes_a_variance_for_each_row_column_or_element(shape: Any) -> None:
    x, t = gradient.zeros(2, 3), gradient.ones(2, 3)
    assert F.gaussian_nll_loss(x, t, gradient.full(shape, 0.5)).item() == pytest.approx(0.6534264)
    assert F.gaussian_nll_loss(x, t, 0.5).item() == pytest.approx(0.6534264)
    with pytest.raises(DTypeError, match="gaussian_nll_loss"):
        F.gaussian_nll_loss(x, t, gradient.ones(shape, dtype=gradient.int64))


@pytest.mark.parametrize("wrong", [False, True, 0, 1.0])
def test_a_weight_of_binary_cross_entropy_is_a_tensor(wrong: Any) -> None:
    x, t = gradient.tensor([0.5, 0.2]), gradient.tensor([1.0, 0.0])
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        with pytest.raises(TypeError, match=f"{loss.__name__}: .* a Tensor as weight"):
            loss(x, t, wrong)
    with pytest.raises(TypeError, match="a Tensor as pos_weight"):
        F.binary_cross_entropy_with_logits(x, t, pos_weight=wrong)


def test_losses_have_the_dtype_of_pytorch() -> None:
    x, t = gradient.tensor([0.5, 0.25]), gradient.tensor([1.0, 0.0])
    half, wide = t.bfloat16(), t.double()
    for reduction in ("none", "mean"):
        of_input = F.huber_loss(x, wide, reduction=reduction)
        of_target = F.binary_cross_entropy_with_logits(x.double(), half, reduction=reduction)
        weighted = F.binary_cross_entropy(x, t, wide, reduction=reduction)
        assert (of_input.dtype, of_target.dtype) == (gradient.float32, gradient.bfloat16)
        assert weighted.dtype == gradient.float32
        huber = F.huber_loss(x, t, reduction=reduction, weight=wide)
        assert huber.dtype == gradient.float64
    assert F.huber_loss(x, t.bool()).tolist() == F.huber_loss(x, t).tolist()


@pytest.mark.parametrize("loss", ["huber_loss", "mse_loss", "smooth_l1_loss"])
def test_losses_of_ints_alone_are_refused(loss: str) -> None:
    ints = gradient.tensor([1, 2])
    for reduction in ("none", "sum", "mean"):
        with pytest.raises(DTypeError, match=f"{loss}: .*floating"):
            getattr(F, loss)(ints, ints, reduction=reduction)


def test_weighted_losses_of_bools_are_refused() -> None:
    x, bools = gradient.tensor([0.5, 0.25]), gradient.tensor([True, False])
    with pytest.raises(DTypeError, match="mse_loss: expected numbers, got bool"):
        F.mse_loss(x, bools, weight=x)
