"""Rows of the op table for softmax, norms, cross-entropy, attention and rotary embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.options import AttentionOptions, SlotMap
from gradient.ops import fused, loss
from gradient.testing.row import Row
from gradient.testing.samples import EMPTY, ONE, constant


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def layer_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def rms_norm(x: Any, weight: Any = 1.0) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


TARGET = np.array([1, 0, 3])
IGNORED = np.array([1, -100, 3])


def cross_entropy(x: Any, target: Any, smoothing: float = 0.0) -> Any:
    logp = np.log(softmax(x, 1))
    picked = -logp[np.arange(len(target)), np.maximum(target, 0)]
    loss = (1 - smoothing) * picked - smoothing * logp.mean(1)
    return np.where(target >= 0, loss, 0.0)


def attention(q: Any, k: Any, v: Any, mask: Any = None, added: Any = 0.0, cap: Any = None) -> Any:
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, 1), np.repeat(v, groups, 1)
    scores = q @ k.swapaxes(-1, -2) * 0.5
    scores = (scores if cap is None else cap * np.tanh(scores / cap)) + added
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return softmax(scores, -1) @ v


CAUSAL = np.tril(np.ones((3, 3), bool))
BAND = CAUSAL & np.triu(np.ones((3, 3), bool), -1)
BIAS = np.linspace(-1, 1, 9).reshape(3, 3)
HEADS = ((2, 4, 3, 4), (2, 2, 3, 4), (2, 2, 3, 5))
ANGLES = np.linspace(0, 3, 6).reshape(3, 2)
KEYS, VALUES = np.cos(np.arange(160.0)).reshape(2, 2, 2, 5, 4)
SCALES = 2.0 ** np.arange(-3, 3).reshape(3, 2)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def rope(x: Any) -> Any:
    a, b = x[..., :2], x[..., 2:]
    return np.concatenate([a * COS - b * SIN, b * COS + a * SIN], -1)


def rope_partial(x: Any) -> Any:
    return np.concatenate([rope(x[..., :4]), x[..., 4:]], -1)


def rope_interleaved(x: Any) -> Any:
    a, b = x[..., ::2], x[..., 1::2]
    return np.stack([a * COS - b * SIN, b * COS + a * SIN], -1).reshape(x.shape)


def cached(q: Any) -> Any:
    """Attention over a cache of five slots; the queries are those of the last three."""
    positions = constant(q, np.array([[2, 3, 4], [2, 3, 4]]))
    return fused.cached_attention(
        q,
        keys=(constant(q, KEYS),),
        values=(constant(q, VALUES),),
        slots=SlotMap(positions, 5, 5, {}),
        options=AttentionOptions(scale=0.5),
    )


def attention_row(note: str, options: dict[str, Any], seen: Any = None, added: Any = None) -> Row:
    """Attention with an added mask, over the keys that these options allow."""
    own = AttentionOptions(0.5, **options)
    bias, cap = 0.0 if added is None else added, options.get("softcap")
    return Row(
        "attention",
        lambda q, k, v: fused.attention(
            q, k, v, mask=None if added is None else constant(q, added), options=own
        ),
        lambda q, k, v: attention(q, k, v, seen, bias, cap),
        HEADS,
        note=note,
    )


def rope_row(note: str, reference: Any, width: int, **options: bool) -> Row:
    """Rotary embedding of vectors of this width, by `COS` and `SIN`."""
    return Row(
        "rope",
        lambda x: fused.rope(x, cos=constant(x, COS), sin=constant(x, SIN), **options),
        reference,
        ((2, 3, width),),
        note=note,
    )


ROWS = [
    Row("softmax", lambda x: fused.softmax(x, axis=1), lambda x: softmax(x, 1), ONE, empty=EMPTY),
    Row("softmax", lambda x: fused.softmax(x, axis=0), lambda x: softmax(x, 0), ONE, note="axis 0"),
    Row(
        "log_softmax",
        lambda x: fused.log_softmax(x, axis=1),
        lambda x: np.log(softmax(x, 1)),
        ONE,
        empty=EMPTY,
    ),  # fmt: skip
    Row(
        "layer_norm",
        fused.layer_norm,
        layer_norm,
        ((3, 4), (4,), (4,)),
        tolerance=64,
        empty=((0, 4), (4,), (4,)),
    ),  # fmt: skip
    Row("layer_norm", fused.layer_norm, layer_norm, ((3, 4),), note="plain", tolerance=64),
    Row("rms_norm", fused.rms_norm, rms_norm, ((3, 4), (4,)), empty=((0, 4), (4,))),
    Row("rms_norm", fused.rms_norm, rms_norm, ONE, note="plain"),
    Row(
        "rms_norm",
        lambda x, weight: fused.rms_norm(x, weight, round_first=True),
        rms_norm,
        ((3, 4), (4,)),
        note="round_first",
    ),
    Row(
        "cross_entropy",
        lambda x: loss.cross_entropy(x, target=constant(x, IGNORED)),
        lambda x: cross_entropy(x, IGNORED),
        ONE,
    ),  # fmt: skip
    Row(
        "mean_cross_entropy",
        lambda x: loss.mean_cross_entropy(x, target=constant(x, IGNORED)),
        lambda x: cross_entropy(x, IGNORED).sum() / 2,
        ONE,
    ),
    Row(
        "nll",
        lambda x: loss.nll(x, target=constant(x, IGNORED), ignore_index=-100),
        lambda x: np.where(IGNORED >= 0, -x[np.arange(3), np.maximum(IGNORED, 0)], 0.0),
        ONE,
    ),
    Row(
        "mean_nll",
        lambda x: loss.mean_nll(x, target=constant(x, IGNORED), ignore_index=-100),
        lambda x: np.where(IGNORED >= 0, -x[np.arange(3), np.maximum(IGNORED, 0)], 0.0).sum() / 2,
        ONE,
    ),
    Row(
        "cross_entropy",
        lambda x: loss.cross_entropy(x, target=constant(x, TARGET), label_smoothing=0.1),
        lambda x: cross_entropy(x, TARGET, 0.1),
        ONE,
        note="smoothed",
    ),
    Row(
        "cached_attention",
        cached,
        lambda q: attention(q, KEYS, VALUES, np.tri(3, 5, 2, dtype=bool)),
        ((2, 4, 3, 4),),
    ),
    Row(
        "stored_vectors",
        lambda x: fused.stored_vectors(
            x, scales=(x.backend.asarray(SCALES.astype(np.float16)),), dtype=np.dtype(np.float64)
        ),
        lambda x: x * np.repeat(SCALES, 2, 1),
        ((3, 4),),
        kind="int",
        differentiable=False,
    ),
    attention_row("", {}),
    attention_row("causal", {"is_causal": True}, seen=CAUSAL),
    attention_row("added mask", {}, added=BIAS),
    attention_row("window", {"is_causal": True, "window": 2}, seen=BAND),
    attention_row("softcap", {"is_causal": True, "softcap": 1.5}, seen=CAUSAL),
    attention_row("softcap, added mask", {"softcap": 1.5}, added=BIAS),
    rope_row("", rope, 4),
    rope_row("interleaved", rope_interleaved, 4, interleaved=True),
    rope_row("partial", rope_partial, 7),
]
