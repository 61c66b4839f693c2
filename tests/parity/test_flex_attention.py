"""`nn.attention.flex_attention`: PyTorch's values and masks (its gradients need a GPU)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.cpu_only,
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:.*return_lse"),
]

BIAS = np.random.default_rng(1).standard_normal((4, 6, 6))


def ours_and_theirs(call: Any) -> list[Any]:
    import torch.nn.attention.flex_attention as theirs

    import gradient.nn.attention.flex_attention as ours

    return [call(gradient, ours), call(torch, theirs)]


CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "plain": (None, None, {}),
    "scale": (None, None, {"scale": 0.3, "return_lse": True}),
    "grouped": (None, None, {"enable_gqa": True, "return_lse": True}),
    "causal": (None, lambda b, h, q, k: q >= k, {"return_lse": True}),
    "a window of some heads": (None, lambda b, h, q, k: (h == 1) | ((q - k).abs() <= 1), {}),
    "nothing seen": (None, lambda b, h, q, k: (q >= k) & (q > 1), {}),
    "relative": (lambda s, b, h, q, k: s + (q - k), lambda b, h, q, k: q >= k, {}),
    "slopes": (lambda s, b, h, q, k: s - (h + 1) * (q - k).abs() * 0.1 + b, None, {}),
    "capped": (lambda s, b, h, q, k: 2 * (s / 2).tanh(), None, {"return_lse": True}),
}


@pytest.mark.parametrize(("score_mod", "mask_mod", "options"), CALLS.values(), ids=list(CALLS))
def test_values(score_mod: Any, mask_mod: Any, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    heads = 2 if "enable_gqa" in options else 4
    shapes = ((2, 4, 6, 8), (2, heads, 6, 8), (2, heads, 6, 5))
    arrays = [rng.standard_normal(shape) for shape in shapes]

    def call(package: Any, flex: Any) -> list[Any]:
        q, k, v = (package.tensor(array) for array in arrays)
        mask = mask_mod and flex.create_block_mask(mask_mod, 2, 4, 6, 6, device="cpu")
        found = flex.flex_attention(q, k, v, score_mod, mask, **options)
        found = found if isinstance(found, tuple) else (found,)
        return [x.numpy() for x in found]

    for mine, other in zip(*ours_and_theirs(call), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-12)


def test_what_is_returned_besides() -> None:
    """PyTorch returns the maxima of scores on a GPU alone."""

    def call(package: Any, flex: Any) -> list[Any]:
        q = package.tensor(np.random.default_rng(0).standard_normal((2, 4, 6, 8)))
        out, besides = flex.flex_attention(q, q, q, return_aux=flex.AuxRequest(lse=True))
        assert besides.max_scores is None
        if package is gradient:
            both = flex.AuxRequest(lse=True, max_scores=True)
            highest = flex.flex_attention(q, q, q, return_aux=both)[1].max_scores
            expected = (q @ q.mT / 8**0.5).amax(-1)
            np.testing.assert_allclose(highest.numpy(), expected.numpy(), rtol=1e-12)
        return [out.numpy(), besides.lse.numpy()]

    for mine, other in zip(*ours_and_theirs(call), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-12)


def test_a_bias_that_is_looked_up() -> None:
    def call(package: Any, flex: Any) -> list[Any]:
        bias = package.tensor(BIAS)
        q = package.tensor(np.ones((2, 4, 6, 8)))
        out = flex.flex_attention(q, q, q * q, lambda s, b, h, i, j: s + bias[h, i, j])
        return [out.numpy()]

    mine, other = ours_and_theirs(call)
    np.testing.assert_allclose(mine[0], other[0], rtol=1e-11)


def test_masks() -> None:
    def call(package: Any, flex: Any) -> list[Any]:
        def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
            return q >= k

        def first(b: Any, h: Any, q: Any, k: Any) -> Any:
            return k < 3 + h

        both, either = flex.and_masks(causal, first), flex.or_masks(causal, first)
        blocks = flex.create_block_mask(both, None, 2, 8, 12, device="cpu", BLOCK_SIZE=4)
        dense = [
            flex.create_mask(mask, 1, 2, 8, 12, device="cpu").int().tolist()
            for mask in (both, either)
        ]
        return [*dense, blocks.to_dense().tolist(), blocks.shape, round(blocks.sparsity(), 6)]

    mine, other = ours_and_theirs(call)
    assert mine == other
