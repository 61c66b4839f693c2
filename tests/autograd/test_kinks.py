"""Derivatives where a function has a kink, a tie, or a piece that is not a number: exact values.

Parity with PyTorch over many more functions and points is tested in parity/test_kinks_parity.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F

INF, NAN = float("inf"), float("nan")


def leaf(values: Any) -> gradient.Tensor:
    return gradient.tensor(values, dtype=gradient.float64, requires_grad=True)


def loss(name: str, target: float) -> Callable[[Any], Any]:
    """Each element's loss, one to a row, for a target."""
    function = getattr(F, name)
    return lambda x: function(
        x.unsqueeze(-1), gradient.full_like(x.detach(), target).unsqueeze(-1), reduction="none"
    )


def zero(x: Any) -> gradient.Tensor:
    return gradient.zeros_like(x.detach())


def first_and_second(
    function: Callable[..., Any], values: Any
) -> tuple[list[float], list[float] | None]:
    """The derivatives of sum(function(x)), and of the sum of those."""
    x = leaf(values)
    (first,) = gradient.autograd.grad(function(x).sum(), x, create_graph=True)
    if not first.requires_grad:
        return first.tolist(), [0.0] * x.numel()
    (second,) = gradient.autograd.grad(first.sum(), x, allow_unused=True, materialize_grads=True)
    return first.tolist(), second.tolist()


# function, points, first derivatives, second derivatives (None: not defined there)
ROWS: list[tuple[str, Callable[..., Any], list[float], list[float], list[float] | None]] = [
    # Losses of a head that starts at zero
    ("logsigmoid", F.logsigmoid, [0.0, -0.0, INF, -INF], [0.5, 0.5, 0, 1], [-0.25, -0.25, 0, 0]),
    ("bce t=0", loss("binary_cross_entropy_with_logits", 0.0), [0.0], [0.5], [0.25]),
    ("bce t=1", loss("binary_cross_entropy_with_logits", 1.0), [0.0], [-0.5], [0.25]),
    ("soft margin t=1", loss("soft_margin_loss", 1.0), [0.0], [-0.5], [0.25]),
    ("soft margin t=-1", loss("soft_margin_loss", -1.0), [0.0], [0.5], [0.25]),
    ("multilabel t=0", loss("multilabel_soft_margin_loss", 0.0), [0.0], [0.5], [0.25]),
    ("multilabel t=1", loss("multilabel_soft_margin_loss", 1.0), [0.0], [-0.5], [0.25]),
    ("binary cross-entropy t=0", loss("binary_cross_entropy", 0.0), [0, 1], [0, 1e12], None),
    ("binary cross-entropy t=1", loss("binary_cross_entropy", 1.0), [0, 1], [-1e12, 0], None),
    ("huber", loss("huber_loss", 0.0), [0.0, 1.0, INF], [0, 1, 1], [1, 0, 0]),
    ("smooth l1", loss("smooth_l1_loss", 0.0), [0.0, -1.0, -INF], [0, -1, -1], [1, 0, 0]),
    # Elementwise
    ("abs", gradient.abs, [0.0, NAN, -2.0], [0, 0, -1], [0, 0, 0]),
    ("relu", F.relu, [0.0, NAN, 1.0], [0, 1, 1], [0, 0, 0]),
    ("softplus at its threshold", lambda x: F.softplus(x, 1.0, 0.0), [0.0, 1.0], [0.5, 1], [0, 0]),
    ("pow 0", lambda x: x**0, [0.0, INF, NAN], [0, 0, 0], [0, 0, 0]),
    ("pow 1", lambda x: x**1, [0.0, INF, NAN], [1, 1, 1], [0, 0, 0]),
    ("0 ** w, number", lambda w: 0.0**w, [0.0, 1.0, -1.0], [0, 0, -INF], None),
    ("0 ** w", lambda w: zero(w) ** w, [0.0, 1.0, -1.0], [0, 0, -INF], None),
    ("x ** 0", lambda x: x ** zero(x), [0.0, INF], [0, 0], [0, 0]),
    ("atan2(x, 0)", lambda x: gradient.atan2(x, zero(x)), [0.0, 1.0], [0, 0], None),
    ("atan2(0, x)", lambda x: gradient.atan2(zero(x), x), [0.0, 1.0], [0, 0], None),
    ("logit of x held in [.1, .9]", lambda x: x.logit(0.1), [0.0, 0.5, NAN], [0, 4, 0], [0, 0, 0]),
    ("logaddexp", lambda x: x.logaddexp(zero(x)), [INF, 0.0, -INF], [1, 0.5, 0], [0, 0.25, 0]),
    ("elu", F.elu, [NAN, 1.0, 0.0], [1, 1, 1], [0, 0, 0]),
    ("elu 0.5", lambda x: F.elu(x, 0.5), [NAN, 0.0], [1, 0.5], [0, 0]),
    ("celu 0.5", lambda x: F.celu(x, 0.5), [NAN, 0.0], [1, 1], [0, 0]),
    ("hardtanh", F.hardtanh, [-1.0, 1.0, NAN], [0, 0, 1], [0, 0, 0]),
    ("hardsigmoid", F.hardsigmoid, [-3.0, 0.0, 3.0, NAN], [0, 1 / 6, 0, 0], [0] * 4),
    ("hardswish", F.hardswish, [-INF, -3, 0, 3, NAN], [0, 0, 0.5, 1, 1], [0, 0, 1 / 3, 0, 0]),
    ("prelu of inf", lambda x: F.prelu(x, leaf([INF])), [1.0, NAN], [1, INF], [0, 0]),
    ("softshrink", F.softshrink, [NAN, 0.5, -0.5, 1.0], [1, 0, 0, 1], [0] * 4),
    # Choosing
    ("maximum", lambda x: x.maximum(zero(x)), [0.0, NAN, 1.0], [0.5, 1, 1], [0, 0, 0]),
    ("minimum", lambda x: x.minimum(zero(x)), [0.0, NAN, 1.0], [0.5, 1, 0], [0, 0, 0]),
    ("clamp to numbers", lambda x: x.clamp(0, 1), [0.0, 1.0, 2.0, NAN], [1, 1, 0, 0], [0] * 4),
    ("clamp to tensors", lambda x: x.clamp(leaf(0), leaf(1)), [0.0, 1.0, NAN], [1, 1, 0], [0] * 3),
    ("div trunc", lambda x: x.div(zero(x), rounding_mode="trunc"), [0.0, 1.0], [0, 0], [0, 0]),
    # Reductions
    ("median of a row", lambda x: x.median(0).values, [1.0, NAN, NAN], [0, 1, 0], [0] * 3),
    ("norm 0.5", lambda x: x.norm(0.5), [0.0, 2.0], [0, 1], [0, 0]),
    ("norm -1", lambda x: x.norm(-1), [0.0, 2.0], [0, 0], [0, 0]),
    ("max of all", gradient.max, [1.0, 3.0, 3.0], [0, 0.5, 0.5], [0] * 3),
    ("max of all, NaN", gradient.max, [1.0, NAN, NAN], [0, 0.5, 0.5], [0] * 3),
    ("median of all", gradient.median, [2.0, 1.0, 2.0], [0.5, 0, 0.5], [0] * 3),
    ("prod, one zero", gradient.prod, [0.0, 2.0, 3.0], [6, 0, 0], [5, 3, 2]),
    ("prod, two zeros", gradient.prod, [0.0, 0.0, 3.0], [0, 0, 0], [3, 3, 0]),
    ("cumprod", lambda x: x.cumprod(0), [0.0, 2.0, 0.0], [3, 0, 0], [3, 1, 2]),
    ("std of equal numbers", gradient.std, [1.0, 1.0], [0, 0], [0, 0]),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_derivatives(row: Any) -> None:
    _, function, points, first, second = row
    found, again = first_and_second(function, points)
    np.testing.assert_allclose(found, first, rtol=1e-12, atol=0)
    if second is not None:
        np.testing.assert_allclose(again, second, rtol=1e-12, atol=1e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_gradient_does_not_pass_what_was_masked_out() -> None:
    """0 where a choice fell on another: not 0 * inf."""

    def infinite(function: Callable[..., Any], values: list[float]) -> list[float]:
        x = leaf(values)
        y = function(x)
        y.backward(gradient.full_like(y.detach(), INF))
        return x.grad.tolist()

    assert infinite(F.relu, [-1.0, 1.0]) == [0, INF]
    assert infinite(lambda x: x.clamp(0, 1), [-1.0, 0.5]) == [0, INF]
    assert infinite(lambda x: x.maximum(gradient.zeros(2)), [-1.0, 1.0]) == [0, INF]
    assert infinite(gradient.floor, [0.5, 1.0]) == [0, 0]


@pytest.mark.parametrize(
    "take", [lambda y: y[0], lambda y: y[:1], lambda y: y.view(2, 1)[0], lambda y: y.unbind()[0]]
)  # fmt: skip
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_view_that_was_overwritten_clears_its_gradient(take: Any, create_graph: bool) -> None:
    """Also one that is infinite: the root's gradient at the zero that was written."""
    x = leaf([1.0, 1.0])
    y = x * 1
    take(y).zero_()
    y.sqrt().sum().backward(create_graph=create_graph)
    assert x.grad.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("index", [(), ..., slice(None)], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_writing_all_of_a_tensor_ends_its_gradient(index: Any) -> None:
    """Also where it would be NaN: the derivative of a negative number's power by the exponent."""
    x, base = leaf([1.0]), leaf([-0.12])
    exponent = x * 1
    exponent[index] = 3.0
    grads = gradient.autograd.grad((base**exponent).sum(), [base, x], create_graph=True)
    second = gradient.autograd.grad(grads[0].sum() + grads[1].sum(), [base, x])
    np.testing.assert_allclose(second[0].numpy(), [-0.72])
    assert second[1].tolist() == [0.0]


def test_clamp_gives_its_bounds_their_gradients() -> None:
    x, low, high = leaf([-1.0, 0.0, 0.5, 1.0, 3.0]), leaf([0.0] * 5), leaf([1.0] * 5)
    x.clamp(low, high).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert low.grad.tolist() == [1, 0, 0, 0, 0]
    assert high.grad.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_padding_takes_no_gradient_from_an_infinite_element() -> None:
    x = leaf([[[-INF, 1.0, -INF]]])
    values, places = F.max_pool1d(x, 2, 2, 1, return_indices=True)
    assert values.tolist() == [[[-INF, 1.0]]] and places.tolist() == [[[0, 1]]]
    values[0, 0, 0].backward()
    assert x.grad.tolist() == [[[1.0, 0.0, 0.0]]]


def test_infinities_in_quantiles_and_norms() -> None:
    """As PyTorch: a quantile goes from the nearer of its two neighbours; 1 / (0 + 0) is inf."""
    assert gradient.tensor([-INF, 0.0, 1.0]).quantile(0.25).item() == -INF
    assert gradient.tensor([0.0, 1.0, INF]).quantile(0.25).item() == 0.5
    for x in (gradient.tensor([INF, -INF]), leaf([INF, -INF])):
        assert x.norm(-1).item() == INF
    assert gradient.tensor([0.0, NAN, 2.0]).norm(0).item() == 2


def test_a_triplet_at_its_margin() -> None:
    """The sum begins with the margin, so that rounding falls to the side that PyTorch's does."""
    anchor, positive, negative = (leaf([[v]]) for v in (0.0, 0.0, -1.0))
    F.triplet_margin_loss(anchor, positive, negative).backward()
    assert positive.grad.tolist() == [[-1.0]]


def test_var_and_std_of_no_freedom() -> None:
    """As PyTorch: 0 / 0 of one number; infinite where the correction takes all degrees."""
    assert np.isnan(gradient.tensor([5.0]).var().item())
    assert np.isnan(gradient.tensor([5.0]).std().item())
    assert gradient.tensor([1.0, 2.0]).var(correction=2).item() == INF


def test_rms_norm_takes_the_eps_of_float32() -> None:
    """That of bfloat16, 0.008, would swamp the mean square of small inputs."""
    x = gradient.full((1, 4), 0.05, dtype=gradient.bfloat16)
    assert F.rms_norm(x, (4,)).tolist() == [[1.0] * 4]


def test_all_and_any_over_no_dimension_and_of_bytes() -> None:
    x = gradient.tensor([[0, 2]], dtype=gradient.uint8)
    assert x.all(dim=()).tolist() == x.any(dim=()).tolist() == [[0, 1]]
    assert x.all().dtype is x.any(1).dtype is x.all(dim=()).dtype is gradient.uint8
    assert gradient.zeros(2).all().dtype is gradient.bool


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_sizes_of_zero() -> None:
    x, w, b = leaf(np.zeros((2, 0))), leaf(np.zeros((3, 0))), leaf([1.0, 2.0, 3.0])
    y = F.linear(x, w, b)
    y.sum().backward()
    assert y.tolist() == [[1, 2, 3]] * 2 and b.grad.tolist() == [2, 2, 2]
    assert F.linear(leaf(np.zeros((2, 4, 0))), w).shape == (2, 4, 3)
    assert leaf(np.zeros((1, 0))).logsumexp(1).tolist() == [-INF]
    q, k, v = leaf(np.ones((1, 1, 2, 4))), leaf(np.ones((1, 1, 0, 4))), leaf(np.ones((1, 1, 0, 5)))
    out = F.scaled_dot_product_attention(q, k, v)
    out.sum().backward()
    assert out.shape == (1, 1, 2, 5) and not out.any() and not q.grad.any()
