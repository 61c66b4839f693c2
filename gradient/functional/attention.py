"""Scaled dot-product attention."""

from __future__ import annotations

import math

from gradient import dtypes
from gradient.errors import ArgumentError, ShapeError
from gradient.functional.arguments import constant
from gradient.functional.dropout import dropout
from gradient.ops import fused
from gradient.random import Generator
from gradient.tensor import Tensor
from gradient.tensor.creation import ones
from gradient.tensor.joining import broadcast_shapes


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`softmax(query @ key.T * scale + mask) @ value` (Vaswani et al. 2017).

    query (..., H, L, E), key (..., Hkv, S, E), value (..., Hkv, S, Ev); result (..., H, L, Ev).
    `attn_mask` broadcasts to (..., L, S): bool, True where a query may look, or numbers to add.
    `is_causal` lets query i look at keys 0 to i. `scale` is `1 / sqrt(E)` unless given. With
    `enable_gqa`, H may be a multiple of Hkv: neighbouring queries share a key and value head.
    A row whose mask forbids everything gives 0.
    """
    if not query.ndim == key.ndim == value.ndim:
        query, key, value = _one_rank(query, key, value)
    _check(query, key, value, attn_mask, is_causal, enable_gqa)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    # The fused op has no gradient for its mask, and does not drop weights.
    if dropout_p > 0.0 or (attn_mask is not None and attn_mask.requires_grad):
        return _composed(query, key, value, attn_mask, dropout_p, is_causal, scale, generator)

    mask = constant("scaled_dot_product_attention", "attn_mask", attn_mask, query)
    if query.ndim == 4:
        return fused.attention(query, key, value, mask=mask, is_causal=is_causal, scale=scale)

    # It takes (B, H, T, D): fold the leading dimensions into B, and add those that are absent.
    if attn_mask is not None and attn_mask.ndim > 2:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
        mask = attn_mask.reshape(-1, *_four(attn_mask)[1:]).array
    heads = [tensor.reshape(-1, *_four(tensor)[1:]) for tensor in (query, key, value)]
    output = fused.attention(*heads, mask=mask, is_causal=is_causal, scale=scale)
    return output.reshape(*query.shape[:-1], value.shape[-1])


def _one_rank(*tensors: Tensor) -> list[Tensor]:
    """All expanded to the leading dimensions of one."""
    lead = broadcast_shapes(*(t.shape[:-2] for t in tensors))
    return [t.expand(*lead, *t.shape[-2:]) for t in tensors]


def _four(tensor: Tensor) -> tuple[int, ...]:
    """The last four sizes of a shape, with 1 for those that are absent."""
    return ((1,) * 4 + tuple(tensor.shape))[-4:]


def _composed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float,
    generator: Generator | None,
) -> Tensor:
    """Attention written out, for the case that needs the weights themselves."""
    groups = query.shape[-3] // key.shape[-3] if query.ndim > 2 else 1
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, -3) for tensor in (key, value))
    weights = attention_weights(query, key, attn_mask, is_causal, scale)
    return dropout(weights, dropout_p, generator=generator) @ value


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """`softmax(query @ key.T * scale + mask)`, (..., L, S); zeros in a row that may see nothing."""
    scores = (query * scale) @ key.mT
    allowed = None
    if is_causal:
        allowed = ones(scores.shape[-2:], dtype=dtypes.bool_, device=scores.device).tril()
    elif attn_mask is not None and attn_mask.dtype == dtypes.bool_:
        allowed = attn_mask
    elif attn_mask is not None:
        scores = scores + attn_mask
    if allowed is None:
        return fused.softmax(scores, axis=-1)
    weights = fused.softmax(scores.masked_fill(~allowed, -math.inf), axis=-1)
    return weights.masked_fill(~allowed, 0.0)


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
) -> None:
    op = "scaled_dot_product_attention"
    if is_causal and attn_mask is not None:
        raise ArgumentError(f"{op}: pass attn_mask or is_causal=True, not both")
    q, k, v = tuple(query.shape), tuple(key.shape), tuple(value.shape)
    got = "got query {}, key {}, value {}"
    if min(len(q), len(k), len(v)) < 2 or not len(q) == len(k) == len(v):
        raise ShapeError(
            f"{op}: expected (..., L, E), (..., S, E), (..., S, Ev), {got.format(q, k, v)}"
        )
    if q[-1] != k[-1] or k[-2] != v[-2]:
        raise ShapeError(
            f"{op}: query and key must agree in their last size, key and value in their last but "
            f"one, {got.format(q, k, v)}"
        )
    if len(q) > 2 and q[-3] != k[-3]:
        if not enable_gqa:
            raise ShapeError(
                f"{op}: the heads differ, {got.format(q, k, v)}; for grouped queries pass "
                "enable_gqa=True"
            )
        if q[-3] % k[-3]:
            raise ShapeError(
                f"{op}: query heads must be a multiple of key heads, {got.format(q, k, v)}"
            )
