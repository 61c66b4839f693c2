"""Attention in several heads, with the projections before and after it (Vaswani et al. 2017,
section 3.2.2)."""

from __future__ import annotations

import math

from gradient import dtypes
from gradient.errors import ArgumentError, FailedCheck, ShapeError, sentence
from gradient.functional.arguments import composite
from gradient.functional.attention import attention_weights, scaled_dot_product_attention
from gradient.functional.dropout import dropout
from gradient.functional.linear import linear
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.creation import zeros
from gradient.tensor.joining import cat

__all__ = ["multi_head_attention_forward"]

Weights = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


@composite
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `nn.MultiheadAttention` computes, of weights that are given: (L, N, E), or (L, E).

    in_proj_weight (3 E, E), or with `use_separate_proj_weight` the three of q, k and v;
    in_proj_bias (3 E,); bias_k and bias_v (1, 1, E); out_proj_weight (E, E). `static_k` and
    `static_v` (N * num_heads, S, E / num_heads) take the places of projected keys and values.
    Masks and results are those of the layer.
    """
    separate = (None, q_proj_weight, k_proj_weight, v_proj_weight)
    weights = separate if use_separate_proj_weight else (in_proj_weight, None, None, None)
    heads, shares = multi_head_attention(
        query, key, value, embed_dim_to_check, num_heads, weights, in_proj_bias, bias_k, bias_v,
        add_zero_attn, dropout_p if training else 0.0, key_padding_mask, need_weights, attn_mask,
        average_attn_weights, is_causal, static_k, static_v,
    )  # fmt: skip
    return linear(heads, out_proj_weight, out_proj_bias), shares


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_heads: int,
    weights: Weights,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    key_padding_mask: Tensor | None,
    need_weights: bool,
    attn_mask: Tensor | None,
    average_attn_weights: bool,
    is_causal: bool,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    name: str = "multi_head_attention_forward",
) -> tuple[Tensor, Tensor | None]:
    """All heads side by side, before the projection of the output, and the attention weights."""
    _check(name, query, key, value, embed_dim, num_heads, weights)
    _check_extra(
        name, query, num_heads, embed_dim // num_heads,
        bias_k=bias_k, bias_v=bias_v, static_k=static_k, static_v=static_v,
    )  # fmt: skip
    _check_masks(name, query, key, num_heads, key_padding_mask, attn_mask, is_causal)
    batched = query.ndim == 3
    if batched:
        query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
    else:
        query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    q, k, v = _project((query, key, value), num_heads, weights, in_proj_bias)
    if static_k is not None:
        k = static_k.reshape(k.shape[0], num_heads, -1, k.shape[-1])
    if static_v is not None:
        v = static_v.reshape(v.shape[0], num_heads, -1, v.shape[-1])
    mask = _mask(name, q, k, attn_mask, key_padding_mask)
    k, v, mask = _extended(k, v, bias_k, bias_v, add_zero_attn, mask)
    shares = None
    if need_weights:
        shares = attention_weights(q, k, mask, scale=1 / math.sqrt(q.shape[-1]))
        shares = dropout(shares, dropout_p)
        heads = shares @ v
    else:
        heads = scaled_dot_product_attention(q, k, v, mask, dropout_p)
    joined = heads.transpose(1, 2).flatten(2)  # (N, L, E)
    if shares is not None and average_attn_weights:
        shares = shares.mean(1)
    if not batched:
        return joined.squeeze(0), None if shares is None else shares.squeeze(0)
    return joined.transpose(0, 1), shares


def _project(
    inputs: tuple[Tensor, ...], num_heads: int, weights: Weights, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Query, key and value, each cut into heads: (N, H, T, D)."""
    each: tuple[Tensor | None, ...] = weights[1:] if weights[0] is None else weights[0].chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    projected = []
    for input, weight, own in zip(inputs, each, biases, strict=True):
        assert weight is not None
        projected.append(linear(input, weight, own))
    return tuple(t.unflatten(-1, (num_heads, -1)).transpose(1, 2) for t in projected)


def _extended(
    k: Tensor,
    v: Tensor,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys and values with a learned one (`bias_k`, `bias_v`) and one of zeros behind them, if
    there are such; every query may look there."""
    batch, heads, length, size = k.shape
    if bias_k is not None and bias_v is not None:
        k, v = (
            cat([tensor, bias.reshape(1, heads, 1, size).expand(batch, heads, 1, size)], 2)
            for tensor, bias in ((k, bias_k), (v, bias_v))
        )
    if add_zero_attn:
        zero = k.new_zeros((batch, heads, 1, size))
        k, v = cat([k, zero], 2), cat([v, zero], 2)
    added = k.shape[2] - length
    if mask is not None and added:
        seen = mask.dtype == dtypes.bool_
        fill = mask.new_full((*mask.shape[:-1], added), 1 if seen else 0)
        mask = cat([mask, fill], -1)
    return k, v, mask


def _mask(
    name: str,
    q: Tensor,
    k: Tensor,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
) -> Tensor | None:
    """Both masks as one that broadcasts to (N, H, L, S): bool (True attends), or added."""
    batch, heads, length, _ = q.shape
    masks = []
    for label, mask in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask)):
        if mask is not None and not (mask.dtype is dtypes.bool_ or mask.is_floating_point()):
            raise FailedCheck(sentence(name, f"{label} of bools or floats", mask.dtype))
    if attn_mask is not None:
        if attn_mask.ndim == 3:
            attn_mask = attn_mask.reshape(batch, heads, length, k.shape[2])
        masks.append(attn_mask)
    if key_padding_mask is not None:
        masks.append(key_padding_mask.reshape(batch, 1, 1, k.shape[2]))
    if not masks:
        return None
    if all(mask.dtype == dtypes.bool_ for mask in masks):
        forbidden = masks[0] if len(masks) == 1 else masks[0] | masks[1]
        return ~forbidden
    zero = zeros((), dtype=q.dtype, device=q.device)
    numbers = [
        zero.masked_fill(mask, -math.inf) if mask.dtype == dtypes.bool_ else mask.to(q.dtype)
        for mask in masks
    ]
    return numbers[0] if len(numbers) == 1 else numbers[0] + numbers[1]


def _check(
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_heads: int,
    weights: Weights,
) -> None:
    """Raise where the inputs do not fit together, or do not fit the projections."""
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        raise FailedCheck(
            f"{name}: query, key and value must all be batched (3 dimensions) or not (2), got "
            f"{query.ndim}, {key.ndim} and {value.ndim}"
        )
    if num_heads < 1 or embed_dim % num_heads:
        raise FailedCheck(sentence(name, f"a multiple of {num_heads} heads as size", embed_dim))
    whole, *each = weights
    sizes = [embed_dim] * 3 if whole is not None else [w.shape[1] for w in each if w is not None]
    if len(sizes) != 3:
        raise ShapeError(f"{name}: expected one weight for q, k and v, or three")
    labels = ("query", "key", "value")
    for label, tensor, size in zip(labels, (query, key, value), sizes, strict=True):
        if tensor.shape[-1] != size:
            raise FailedCheck(
                f"{name}: expected {label} of size {size} in its last dimension, got "
                f"{tuple(tensor.shape)}"
            )
    if query.ndim == 3 and not query.shape[1] == key.shape[1] == value.shape[1]:
        got = f"{query.shape[1]}, {key.shape[1]} and {value.shape[1]}"
        raise FailedCheck(sentence(name, "query, key and value of one batch size", got))
    if key.shape[0] != value.shape[0]:
        got = f"{key.shape[0]} and {value.shape[0]}"
        raise FailedCheck(sentence(name, "key and value of one length", got))


def _check_extra(
    name: str,
    query: Tensor,
    heads: int,
    head_dim: int,
    **given: Tensor | None,
) -> None:
    """Raise where what stands beside or for projected keys and values does not fit them."""
    if (given["bias_k"] is None) != (given["bias_v"] is None):
        raise ArgumentError(f"{name}: expected bias_k and bias_v both, or neither")
    rows = heads * (query.shape[1] if query.ndim == 3 else 1)
    for label in ("static_k", "static_v"):
        tensor = given[label]
        if tensor is not None and (
            tensor.ndim != 3 or (tensor.shape[0], tensor.shape[2]) != (rows, head_dim)
        ):
            raise ShapeError(
                sentence(name, f"{label} ({rows}, S, {head_dim})", tuple(tensor.shape))
            )


def _check_masks(
    name: str,
    query: Tensor,
    key: Tensor,
    num_heads: int,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
) -> None:
    """Raise where a mask has another shape than the scores that it is for."""
    for label, mask in {"attn_mask": attn_mask, "key_padding_mask": key_padding_mask}.items():
        if mask is not None:
            tensor_of(name, mask, label)
    if is_causal and attn_mask is None:
        raise ShapeError(f"{name}: is_causal=True needs attn_mask as well")
    batches = query.shape[1] if query.ndim == 3 else 1
    length, keys = query.shape[0], key.shape[0]
    allowed = ((length, keys), (batches * num_heads, length, keys))
    if attn_mask is not None and tuple(attn_mask.shape) not in allowed:
        raise ShapeError(
            f"{name}: expected attn_mask {allowed[0]} or {allowed[1]}, got {tuple(attn_mask.shape)}"
        )
    wanted = (batches, keys) if query.ndim == 3 else (keys,)
    if key_padding_mask is not None and tuple(key_padding_mask.shape) != wanted:
        raise FailedCheck(
            f"{name}: expected key_padding_mask {wanted}, got {tuple(key_padding_mask.shape)}"
        )
