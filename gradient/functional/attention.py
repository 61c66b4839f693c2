"""Scaled dot-product attention: the general form, and PyTorch's."""

from __future__ import annotations

import math

from gradient import dtypes
from gradient.backends.options import AttentionOptions
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.functional.arguments import composite
from gradient.functional.dropout import dropout
from gradient.ops import fused
from gradient.tensor import Tensor
from gradient.tensor.arguments import constant, flag_of, number_of
from gradient.tensor.creation import ones
from gradient.tensor.generator import Generator
from gradient.tensor.joining import broadcast_shapes

__all__ = ["attention", "scaled_dot_product_attention"]


@composite
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """`softmax(query @ key.T * scale + mask) @ value` (Vaswani et al. 2017), with the options of
    language models.

    Args:
        query: (..., H, L, E).
        key: (..., Hkv, S, E). H is a multiple of Hkv: neighbouring query heads share a key head.
        value: (..., Hkv, S, Ev).
        mask: broadcasts to (..., L, S); bool, True where a query may attend, or numbers to add.
        is_causal: query i attends to keys 0 to i.
        scale: factor of the scores; None: `1 / sqrt(E)`.
        window: with `is_causal`, query i attends to keys i - window + 1 to i only (Beltagy et al.
            2020, section 3.1).
        softcap: scores become `softcap * tanh(scores / softcap)`, before the mask (Gemma 2, 2024,
            section 2).
        dropout_p: probability of dropping an attention weight.

    Returns:
        (..., H, L, Ev); 0 for a query that may not attend to any key.

    Raises:
        ArgumentError: a mask with `is_causal`, a window without it or below 1, a softcap of 0 or
            less.
        ShapeError: the shapes do not fit together.
    """
    query, key, value = _broadcast(query, key, value, enable_gqa=True)
    _check("attention", query, key, value, enable_gqa=True)
    if is_causal and mask is not None:
        raise ArgumentError("attention: pass mask or is_causal=True, not both")
    if window is not None and not is_causal:
        raise ArgumentError(
            f"attention: window={window} needs is_causal=True; without it, say by a mask which "
            f"keys a query may look at"
        )
    if window is not None and window < 1:
        raise ArgumentError(f"attention: window must be at least 1, got {window}")
    if softcap is not None and not softcap > 0:
        raise ArgumentError(f"attention: softcap must be positive, got {softcap}")
    return _attention(
        query, key, value, mask, is_causal, scale, window, softcap, dropout_p, generator
    )


@composite
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
    `attn_mask` broadcasts to (..., L, S): bool, True where a query may attend, or numbers to add.
    With `is_causal`, query i attends to keys 0 to i. `scale` is `1 / sqrt(E)` by default. With
    `enable_gqa`, H may be a multiple of Hkv: neighbouring query heads share a key and value head.
    The result is 0 for a query that may not attend to any key. `attention` has more options.
    """
    query, key, value = _broadcast(query, key, value, enable_gqa)
    _check("scaled_dot_product_attention", query, key, value, enable_gqa)
    if scale is not None:
        scale = number_of("scaled_dot_product_attention", "scale", scale)
    if flag_of("scaled_dot_product_attention", "is_causal", is_causal) and attn_mask is not None:
        raise ArgumentError(
            "scaled_dot_product_attention: pass attn_mask or is_causal=True, not both"
        )
    return _attention(
        query, key, value, attn_mask, is_causal, scale, None, None, dropout_p, generator
    )


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    dropout_p: float,
    generator: Generator | None,
) -> Tensor:
    """Attention by the fused op where it can be, of arguments that have been checked."""
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(sentence("attention", "dropout_p from 0 to 1", dropout_p))
    if attn_mask is not None:
        constant("attention", "mask", attn_mask, query)
        if attn_mask.dtype not in (dtypes.bool_, dtypes.float32, query.dtype):
            expected = f"a mask of bools or of the query's dtype {query.dtype}"
            raise DTypeError(sentence("attention", expected, attn_mask.dtype))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    # The fused op has no gradient for its mask, and does not drop weights.
    if dropout_p > 0.0 or (attn_mask is not None and attn_mask.requires_grad):
        groups = query.shape[-3] // key.shape[-3] if query.ndim > 2 else 1
        if groups > 1:
            key, value = (tensor.repeat_interleave(groups, -3) for tensor in (key, value))
        weights = attention_weights(query, key, attn_mask, is_causal, scale, window, softcap)
        return dropout(weights, dropout_p, generator=generator) @ value

    mask = constant("attention", "mask", attn_mask, query)
    options = AttentionOptions(scale, is_causal, window, softcap)
    if query.ndim == 4:
        return fused.attention(query, key, value, mask=mask, options=options)

    # It takes (B, H, T, D): fold the leading dimensions into B, and add those that are absent.
    if attn_mask is not None and attn_mask.ndim > 2:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
        mask = attn_mask.reshape(_four(attn_mask)).array
    heads = [tensor.reshape(_four(tensor)) for tensor in (query, key, value)]
    output = fused.attention(*heads, mask=mask, options=options)
    return output.reshape(*query.shape[:-1], value.shape[-1])


def _broadcast(
    query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Expand batches to one shape, and heads unless `enable_gqa`; what does not fit stays as it
    is."""
    if query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        return query, key, value
    given = (query, key, value)
    rank = max(x.ndim for x in given)
    shapes = [(1,) * (rank - x.ndim) + tuple(x.shape) for x in given]
    kept = -3 if enable_gqa and rank > 2 else -2
    try:
        batch = broadcast_shapes(*(shape[:kept] for shape in shapes))
    except ShapeError:
        return given
    q, k, v = (x.expand(*batch, *s[kept:]) for x, s in zip(given, shapes, strict=True))
    return q, k, v


def _four(tensor: Tensor) -> tuple[int, ...]:
    """(B, H, T, D): leading dimensions flattened, absent ones of size 1."""
    sizes = (1,) * 4 + tuple(tensor.shape)
    return math.prod(sizes[:-3]), *sizes[-3:]


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float = 1.0,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """`softmax(query @ key.T * scale + mask)`, (..., L, S); 0 for a query that attends to no key.

    `window` and `softcap` are as in `attention`.
    """
    scores = (query * scale) @ key.mT
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    allowed = None
    if is_causal:
        allowed = ones(scores.shape[-2:], dtype=dtypes.bool_, device=scores.device).tril()
        if window is not None:
            allowed = allowed & ~allowed.tril(-window)
    elif attn_mask is not None and attn_mask.dtype == dtypes.bool_:
        allowed = attn_mask
    elif attn_mask is not None:
        scores = scores + attn_mask
    if allowed is None:
        return fused.softmax(scores, axis=-1)
    weights = fused.softmax(scores.masked_fill(~allowed, -math.inf), axis=-1)
    return weights.masked_fill(~allowed, 0.0)


def _check(
    op: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    enable_gqa: bool,
) -> None:
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
