"""Attention by functions of positions, held to scaled_dot_product_attention."""

from __future__ import annotations

import pytest

import gradient
import gradient.nn.functional as F
from gradient.autograd import gradcheck, gradgradcheck
from gradient.errors import ArgumentError, ShapeError, TypeMismatch
from gradient.nn.attention import SDPBackend, sdpa_kernel
from gradient.nn.attention.flex_attention import create_block_mask, flex_attention
from gradient.tensor import Tensor


def causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q >= k


def test_it_is_causal_attention(device) -> None:
    q, k, v = (gradient.randn(2, 3, 5, 4, device=device) for _ in range(3))
    mask = create_block_mask(causal, None, None, 5, 5)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert gradient.allclose(flex_attention(q, k, v, block_mask=mask), expected, atol=1e-5)
    short = create_block_mask(causal, None, None, 4, 5)
    with pytest.raises(ShapeError, match=r"block_mask for 5 queries and 5 keys, got .*\(4, 5\)"):
        flex_attention(q, k, v, block_mask=short)
    with pytest.raises(ShapeError, match="as many heads in key as in query"):
        flex_attention(q, k[:, :2], v[:, :2])
    with pytest.raises(ShapeError, match="of 4 dimensions"):
        flex_attention(q[0], k[0], v[0])


def test_gradients_with_queries_that_see_nothing() -> None:
    q, k, v, slope = (
        gradient.randn(*shape, dtype=gradient.float64, requires_grad=True)
        for shape in ((1, 2, 3, 4), (1, 1, 4, 4), (1, 1, 4, 2), (2,))
    )
    mask = create_block_mask(lambda b, h, i, j: i > j, None, None, 3, 4)

    def attend(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
        def lean(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return s - slope[h] * (i - j)

        return flex_attention(q, k, v, lean, mask, enable_gqa=True)

    assert attend(q, k, v, slope)[0, :, 0].tolist() == [[0, 0], [0, 0]]
    assert gradcheck(attend, (q, k, v, slope))
    assert gradgradcheck(attend, (q, k, v, slope))


def test_a_choice_of_kernels_changes_nothing() -> None:
    q = gradient.randn(1, 2, 3, 4)
    expected = F.scaled_dot_product_attention(q, q, q)
    for chosen in (SDPBackend.MATH, [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        with sdpa_kernel(chosen):
            assert gradient.equal(F.scaled_dot_product_attention(q, q, q), expected)
    with pytest.raises(TypeMismatch, match="an SDPBackend or a list"), sdpa_kernel("math"):
        pass
    with pytest.raises(ArgumentError, match="at least one"), sdpa_kernel([]):
        pass
