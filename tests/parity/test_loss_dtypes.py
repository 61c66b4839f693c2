"""Losses whose arguments have different dtypes: PyTorch's values, dtypes and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

DTYPES = ("float64", "float32", "bfloat16", "float16", "int64", "int32", "bool")

NAMES = (
    "huber_loss smooth_l1_loss mse_loss l1_loss binary_cross_entropy poisson_nll_loss",
    "binary_cross_entropy_with_logits soft_margin_loss hinge_embedding_loss cross_entropy",
    "multilabel_soft_margin_loss cosine_similarity pairwise_distance",
)

CALLS: dict[str, Any] = {
    **{
        name: lambda f, x, t, name=name: getattr(f, name)(x, t)
        for names in NAMES
        for name in names.split()
    },
    "kl_div": lambda f, x, t: f.kl_div(x, t, reduction="batchmean"),
    "gaussian_nll_loss, target": lambda f, x, t: f.gaussian_nll_loss(x, t, x),
    "gaussian_nll_loss, var": lambda f, x, t: f.gaussian_nll_loss(x, x, t),
    "binary_cross_entropy, weight": lambda f, x, t: f.binary_cross_entropy(x, x, t),
    "binary_cross_entropy_with_logits, weight": lambda f, x, t: f.binary_cross_entropy_with_logits(
        x, x, t
    ),
    "binary_cross_entropy_with_logits, pos_weight": lambda f, x, t: (
        f.binary_cross_entropy_with_logits(x, x, pos_weight=t)
    ),
    "huber_loss, weight": lambda f, x, t: f.huber_loss(x, x * 0.5, weight=t),
    "mse_loss, weight": lambda f, x, t: f.mse_loss(x, x * 0.5, weight=t),
    "l1_loss, weight": lambda f, x, t: f.l1_loss(x, x * 0.5, weight=t),
    "margin_ranking_loss": lambda f, x, t: f.margin_ranking_loss(x, t, x),
    "margin_ranking_loss, target": lambda f, x, t: f.margin_ranking_loss(x, x, t),
    "cosine_embedding_loss": lambda f, x, t: f.cosine_embedding_loss(x, t, x[:, 0]),
    "cosine_embedding_loss, target": lambda f, x, t: f.cosine_embedding_loss(x, x, t[:, 0]),
    "triplet_margin_loss": lambda f, x, t: f.triplet_margin_loss(x, t, t),
}


def given(call: Any, package: Any, *dtypes: str) -> Any:
    rows = [[0.125, 0.75, 0.25], [0.875, 0.25, 0.625]], [[1.0, 0.0, 1.0], [0.25, 1.0, 0.0]]
    x, t = (package.tensor(r).to(getattr(package, d)) for r, d in zip(rows, dtypes, strict=True))
    try:
        return call(package.nn.functional, x, t)
    except (RuntimeError, TypeError, ValueError) as error:
        return error


@pytest.mark.parametrize("name", CALLS)
def test_two_dtypes(name: str) -> None:
    for x in DTYPES:
        for t in DTYPES:
            expected, ours = (given(CALLS[name], package, x, t) for package in (torch, gradient))
            if isinstance(expected, Exception):
                # Where PyTorch has no kernel of 16 bits, we may have one.
                spared = "16" in x and "not implemented" in str(expected)
                assert spared or isinstance(ours, Exception), f"{x}, {t}: {expected}"
                continue
            assert not isinstance(ours, Exception), f"{x}, {t}: {ours}"
            assert str(ours.dtype).split(".")[1] == str(expected.dtype).split(".")[1], f"{x}, {t}"
            close = 2e-2 if "16" in x + t else 1e-6
            a, b = (np.array(out.tolist()) for out in (ours, expected))
            if name == "cosine_similarity" and "float16" in (x, t):
                b = np.nan_to_num(b)  # of zeros: PyTorch's eps is 0 in float16
            assert np.allclose(a, b, rtol=close, atol=close, equal_nan=True), f"{x}, {t}"


SHAPES = [(), (1,), (2,), (3,), (4,), (1, 1), (1, 3), (2, 1), (2, 3), (0, 1), (2, 1, 1), (2, 3, 1),
          (2, 3, 4), (2, 1, 4), (1, 3, 4), (0,), (2, 0)]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_of_a_variance(shape: Any) -> None:
    def loss(f: Any, x: Any, var: Any) -> Any:
        return f.gaussian_nll_loss(x, x + 1, var, reduction="none")

    for var in SHAPES:
        outs = []
        for package in (torch, gradient):
            try:
                x, variance = package.zeros(shape), package.ones(var) * 2
                outs.append(loss(package.nn.functional, x, variance))
            except (RuntimeError, ValueError) as error:
                outs.append(error)
        expected, ours = outs
        assert isinstance(expected, Exception) == isinstance(ours, Exception), f"{var}: {outs}"
        if not isinstance(expected, Exception):
            assert tuple(ours.shape) == tuple(expected.shape)
            assert np.allclose(ours.tolist(), expected.tolist())
