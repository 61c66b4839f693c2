"""Functions that PyTorch has in its package beside those of `nn.functional`, beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.compat import tables

pytestmark = [
    pytest.mark.parity,
    # What PyTorch has to say about its own functions.
    pytest.mark.filterwarnings("ignore:at..(frobenius|nuclear)_norm is deprecated"),
    pytest.mark.filterwarnings("ignore:RNN module weights are not part of single"),
]
torch = pytest.importorskip("torch")


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape)


def agree(call: Callable[..., Any], *arrays: np.ndarray[Any, Any]) -> None:
    """`call(package, *tensors)` has the same results and gradients in both packages."""
    results, inputs = [], []
    for package in (torch, gradient):
        tensors = [package.tensor(a).requires_grad_() for a in arrays]
        found = call(package, *tensors)
        found = found if isinstance(found, tuple) else (found,)
        differentiable = [t for t in found if t.requires_grad]
        sum((t * t.detach().cos()).sum() for t in differentiable).backward()
        results.append(found)
        inputs.append(tensors)
    for theirs, ours in zip(*results, strict=True):
        assert str(ours.dtype).partition(".")[2] == str(theirs.dtype).partition(".")[2]
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), atol=1e-12)
    for theirs, ours in zip(*inputs, strict=True):
        assert (ours.grad is None) is (theirs.grad is None)
        if theirs.grad is not None:
            np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), atol=1e-12)


X, Y = normal(3, 4), normal(3, 5)[:, 1:]
SIGNS = [1, -1, 1, 1]

CALLS: dict[str, list[tuple[Callable[..., Any], list[Any]]]] = {
    "adaptive_max_pool1d": [(lambda t, x: t.adaptive_max_pool1d(x, 3), [normal(2, 3, 7)])],
    "affine_grid_generator": [
        (lambda t, x: t.affine_grid_generator(x, (2, 3, 4, 5), False), [normal(2, 2, 3)])
    ],
    "alpha_dropout_": [(lambda t, x: t.alpha_dropout_(x * 1, 0.5, False), [X])],
    "celu_": [(lambda t, x: t.celu_(x * 1, 0.7), [X])],
    "conv_tbc": [
        (lambda t, *a: t.conv_tbc(*a, 1), [normal(7, 2, 3), normal(3, 3, 4), normal(4)]),
        (lambda t, *a: t.conv_tbc(*a), [normal(7, 2, 3), normal(2, 3, 4), normal(4)]),
    ],
    "convolution": [
        (
            lambda t, *a: t.convolution(*a, [1, 2], [1, 0], [1, 1], False, [0, 0], 1),
            [normal(2, 3, 7, 7), normal(4, 3, 3, 3), normal(4)],
        ),
        (
            lambda t, *a: t.convolution(*a, [2], [1], [1], True, [1], 1),
            [normal(2, 3, 7), normal(3, 4, 3), normal(4)],
        ),
    ],
    "dropout_": [(lambda t, x: t.dropout_(x * 1, 0.5, False), [X])],
    "embedding_bag": [
        (
            lambda t, w, m=mode: t.embedding_bag(
                w, t.tensor([1, 2, 3, 1]), t.tensor([0, 3]), False, m
            )[0],
            [normal(6, 2)],
        )
        for mode in range(3)
    ],
    "feature_alpha_dropout_": [(lambda t, x: t.feature_alpha_dropout_(x * 1, 0.5, False), [X])],
    "feature_dropout": [(lambda t, x: t.feature_dropout(x, 0.5, False), [X])],
    "feature_dropout_": [(lambda t, x: t.feature_dropout_(x * 1, 0.5, False), [X])],
    "frobenius_norm": [
        (lambda t, x: t.frobenius_norm(x, [0, 1]), [X]),
        (lambda t, x: t.frobenius_norm(x, 1, True), [X]),
        (lambda t, x: t.frobenius_norm(x, []), [X]),
    ],
    "grid_sampler": [
        (
            lambda t, *a: t.grid_sampler(*a, 0, 1, False),
            [normal(2, 2, 3, 3), normal(2, 4, 4, 2)],
        )
    ],
    "grid_sampler_2d": [
        (
            lambda t, *a: t.grid_sampler_2d(*a, 2, 2, True),
            [normal(2, 2, 3, 3), normal(2, 4, 4, 2)],
        )
    ],
    "grid_sampler_3d": [
        (
            lambda t, *a: t.grid_sampler_3d(*a, 1, 0, True),
            [normal(2, 2, 3, 3, 3), normal(2, 4, 4, 4, 3)],
        )
    ],
    "instance_norm": [
        (
            lambda t, *a: t.instance_norm(*a, None, None, True, 0.1, 1e-5, False),
            [normal(2, 3, 7), normal(3), normal(3)],
        )
    ],
    "max_pool1d_with_indices": [
        (lambda t, x: t.max_pool1d_with_indices(x, 3, 2), [normal(2, 3, 7)]),
        (lambda t, x: t.max_pool1d_with_indices(x, 2), [normal(2, 3, 7)]),
    ],
    "norm_except_dim": [
        (lambda t, x: t.norm_except_dim(x, 2, 1), [normal(3, 4, 2)]),
        (lambda t, x: t.norm_except_dim(x, 2, -1), [normal(3, 4, 2)]),
        (lambda t, x: t.norm_except_dim(x, 1, 0), [normal(3)]),
    ],
    "nuclear_norm": [
        (lambda t, x: t.nuclear_norm(x), [X]),
        (lambda t, x: t.nuclear_norm(x, True), [X]),
        (lambda t, x: t.nuclear_norm(x, (0, 2)), [normal(3, 4, 2)]),
    ],
    "rrelu_": [(lambda t, x: t.rrelu_(x * 1), [X])],
    "selu_": [(lambda t, x: t.selu_(x * 1), [X])],
    "threshold_": [(lambda t, x: t.threshold_(x * 1, 0.1, 2.0), [X])],
}
"""Of each, calls of a package and tensors, and the tensors' values."""

WITHOUT_GRADIENT = {
    "conj_physical_", "embedding_renorm_", "native_channel_shuffle", "view_as_complex_copy",
    "view_as_real_copy",
}  # fmt: skip

LOSSES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "binary_cross_entropy_with_logits": (
        lambda t, r, a, b: t.binary_cross_entropy_with_logits(a, b.sigmoid(), None, None, r),
        [X, Y],
    ),
    "cosine_embedding_loss": (
        lambda t, r, a, b: t.cosine_embedding_loss(a, b, t.tensor([1, -1, 1]), 0.1, r),
        [X, Y],
    ),
    "ctc_loss": (
        lambda t, r, a: t.ctc_loss(
            a.log_softmax(2), t.tensor([[1, 2], [2, 1]]), t.tensor([5, 5]), t.tensor([2, 2]), 0, r
        ),
        [normal(5, 2, 3)],
    ),
    "hinge_embedding_loss": (
        lambda t, r, a: t.hinge_embedding_loss(a, t.tensor(SIGNS), 0.1, r),
        [X],
    ),
    "kl_div": (lambda t, r, a, b: t.kl_div(a.log_softmax(1), b.softmax(1), r), [X, Y]),
    "margin_ranking_loss": (
        lambda t, r, a, b: t.margin_ranking_loss(a, b, t.tensor([SIGNS]), 0.1, r),
        [X, Y],
    ),
    "poisson_nll_loss": (
        lambda t, r, a, b: t.poisson_nll_loss(a, b.exp(), True, True, 1e-8, r),
        [X, Y],
    ),
    "triplet_margin_loss": (
        lambda t, r, a, b, c: t.triplet_margin_loss(a, b, c, 1.0, 2.0, 1e-6, True, r),
        [X, Y, normal(4, 3).T],
    ),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_functions(name: str) -> None:
    for call, arrays in CALLS[name]:
        agree(call, *arrays)


@pytest.mark.parametrize("reduction", range(3))
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses(name: str, reduction: int) -> None:
    call, arrays = LOSSES[name]
    agree(lambda t, *a: call(t, reduction, *a), *arrays)
    with pytest.raises(ValueError, match=f"{name}: expected reduction 0 .none., 1"):
        call(gradient, 3, *[gradient.tensor(a) for a in arrays])


def test_every_function_has_a_call() -> None:
    assert CALLS.keys() | WITHOUT_GRADIENT == set(tables.NATIVE)
    assert LOSSES.keys() == set(tables.LOSSES)


def test_channels_are_shuffled() -> None:
    x = normal(1, 4, 2, 2)
    wanted = torch.native_channel_shuffle(torch.tensor(x), 2)
    assert gradient.native_channel_shuffle(gradient.tensor(x), 2).tolist() == wanted.tolist()


def test_conjugates_and_copies() -> None:
    x = gradient.tensor([1 + 2j, -3j])
    assert gradient.conj_physical_(x) is x and x.tolist() == [1 - 2j, 3j]
    pairs = gradient.view_as_real_copy(x)
    again = gradient.view_as_complex_copy(pairs)
    pairs.zero_()
    assert x.tolist() == again.tolist() == [1 - 2j, 3j]


def test_rows_are_shrunk_in_place() -> None:
    rows = 3 * abs(normal(5, 3))
    ours, theirs = gradient.tensor(rows), torch.tensor(rows)
    gradient.embedding_renorm_(ours, gradient.tensor([1, 2, 2]), 1.0, 2.0)
    torch.embedding_renorm_(theirs, torch.tensor([1, 2, 2]), 1.0, 2.0)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-12)


def test_whole_channels_are_dropped() -> None:
    x = gradient.ones(50, 4, 6)
    dropped = gradient.feature_dropout_(x, 0.5, True)
    assert dropped is x
    assert {tuple(row) for row in x.reshape(-1, 6).tolist()} == {(0.0,) * 6, (2.0,) * 6}


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("name", sorted(GATES))
def test_recurrent_layers(name: str, directions: int, bias: bool) -> None:
    rows, weights = GATES[name] * 5, []
    for layer in range(2):
        for _ in range(directions):
            size = 5 * directions if layer else 3
            weights += [normal(rows, size), normal(5, rows).T]
            weights += [normal(rows), normal(rows + 1)[1:]] if bias else []
    states = [normal(2 * directions, 4, 5), normal(5, 4, 2 * directions).T]

    def run(t: Any, *tensors: Any, sizes: list[int] | None = None) -> Any:
        x, h, c, *params = tensors
        state = (h, c) if name == "lstm" else h
        options = (bias, 2, 0.0, True, directions == 2)
        if sizes is not None:
            return getattr(t, name)(x, t.tensor(sizes), state, params, *options)
        return getattr(t, name)(x, state, params, *options, False)

    agree(run, normal(6, 4, 3), *states, *weights)
    agree(lambda t, *a: run(t, *a, sizes=[4, 2, 1]), normal(7, 3), *states, *weights)


@pytest.mark.parametrize("name", sorted(GATES))
def test_recurrent_cells(name: str) -> None:
    rows = GATES[name] * 5

    def run(t: Any, x: Any, h: Any, c: Any, *weights: Any) -> Any:
        return getattr(t, f"{name}_cell")(x, (h, c) if name == "lstm" else h, *weights)

    states = [normal(4, 5), normal(5, 4).T]
    weights = [normal(rows, 3), normal(5, rows).T, normal(rows), normal(rows + 1)[1:]]
    agree(run, normal(4, 3), *states, *weights)
    agree(run, normal(4, 3), *states, *weights[:2])


def test_no_random_numbers_are_drawn_for_given_weights() -> None:
    weights = [gradient.zeros(5, 3), gradient.zeros(5, 5)]
    before = gradient.get_rng_state()
    gradient.rnn_tanh(gradient.zeros(2, 1, 3), gradient.zeros(1, 1, 5), weights, False, 1, 0.0,
                      False, False, False)  # fmt: skip
    assert gradient.equal(gradient.get_rng_state(), before)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradients_of_convolutions_as_functions(n: int) -> None:
    spatial = (6, 5, 4)[:n]
    options = {"stride": 2, "padding": 1, "groups": 2}

    def run(t: Any, x: Any, w: Any) -> Any:
        conv = getattr(t.nn.functional, f"conv{n}d")
        g = conv(x, w, None, **options).detach().cos()
        of = {kind: getattr(t.nn.grad, f"conv{n}d_{kind}") for kind in ("input", "weight")}
        return of["input"](x.shape, w, g, **options), of["weight"](x, w.shape, g, **options)

    agree(run, normal(2, 4, *spatial), normal(6, 2, *[3] * n))
