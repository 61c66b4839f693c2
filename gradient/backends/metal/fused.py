"""Optional ops of the protocol, by MLX's fast functions. Each returns a list of results.

Statistics that only gradients need are separate results. MLX computes lazily, so they cost nothing
if they are freed unread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from gradient.backends.composed.rng import LOW, MULTIPLIERS, WEYL
from gradient.backends.metal.bounds import within
from gradient.backends.metal.ops import HALF

FUSED: dict[str, Callable[..., list[Any]]] = {}


def fused(function: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    FUSED[function.__name__] = function
    return function


def single(x: Any) -> Any:
    """16-bit floats as float32."""
    return x.astype(mx.float32) if x is not None and x.dtype in HALF else x


# Elementwise -------------------------------------------------------------------------------------

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
SQRT_HALF, GELU_SCALE, GELU_CUBIC = math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715


def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + mx.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x)))
    return 0.5 * x * (1 + mx.erf(x * SQRT_HALF))


@mx.compile
def _silu(x: Any) -> Any:
    return x * mx.sigmoid(x)


@mx.compile
def _silu_grad(g: Any, x: Any) -> Any:
    s = mx.sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@fused
def silu_grad(g: Any, x: Any) -> list[Any]:
    return [_silu_grad(single(g), single(x))]


@fused
def gelu(x: Any, approximate: str) -> list[Any]:
    return [_gelu(single(x), approximate)]


@fused
def gelu_grad(g: Any, x: Any, approximate: str) -> list[Any]:
    _, (gx,) = mx.vjp(lambda x: _gelu(x, approximate), [single(x)], [single(g)])
    return [gx]


@mx.compile
def _erf(x: Any) -> Any:
    """erf by MLX; for small numbers, where MLX's loses digits, by a Taylor series."""
    small = mx.clip(x, -0.25, 0.25)
    square = small * small
    series = 1 - square * (1 / 3 - square * (1 / 10 - square * (1 / 42 - square / 216)))
    return mx.where(mx.abs(x) < 0.25, TWO_OVER_ROOT_PI * x * series, mx.erf(x))


for _name, _function in {
    "sigmoid": mx.sigmoid, "silu": _silu, "erf": _erf, "expm1": mx.expm1, "log1p": mx.log1p,
}.items():  # fmt: skip
    FUSED[_name] = lambda x, function=_function: [function(single(x))]
FUSED["relu"] = lambda x: [mx.maximum(x, mx.array(0, dtype=x.dtype))]


# Softmax and cross-entropy -----------------------------------------------------------------------


@fused
def softmax(x: Any, axis: int) -> list[Any]:
    return [mx.softmax(x, axis=axis, precise=True)]


@fused
def softmax_grad(g: Any, out: Any, axis: int) -> list[Any]:
    g, out = single(g), single(out)
    return [out * (g - mx.sum(g * out, axis=axis, keepdims=True))]


@fused
def log_softmax(x: Any, axis: int) -> list[Any]:
    x = single(x)
    return [x - mx.logsumexp(x, axis=axis, keepdims=True)]


@fused
def log_softmax_grad(g: Any, out: Any, axis: int) -> list[Any]:
    g, out = single(g), single(out)
    return [g - mx.exp(out) * mx.sum(g, axis=axis, keepdims=True)]


def _classes(target: Any, ignore_index: int, count: int) -> tuple[Any, Any]:
    """(which rows are not ignored, the column of each row's class)."""
    valid = target != ignore_index
    return valid, within(mx.where(valid, target, 0), 0, count, 1)[:, None]


@fused
def cross_entropy(logits: Any, target: Any, ignore_index: int, label_smoothing: float) -> list[Any]:
    logits = single(logits)
    high = mx.max(logits, axis=-1, keepdims=True)
    shifted = logits - high
    log_sum = mx.log(mx.sum(mx.exp(shifted), axis=-1))
    valid, column = _classes(target, ignore_index, logits.shape[1])
    loss = log_sum - mx.take_along_axis(shifted, column, axis=1)[:, 0]
    if label_smoothing:
        uniform = log_sum - mx.mean(shifted, axis=-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return [mx.where(valid, loss, 0), high[:, 0], log_sum]


@fused
def cross_entropy_grad(
    g: Any, logits: Any, target: Any, high: Any, log_sum: Any, ignore_index: int,
    label_smoothing: float,
) -> list[Any]:  # fmt: skip
    valid, column = _classes(target, ignore_index, logits.shape[1])
    g = mx.where(valid, single(g), 0)[:, None]
    p = mx.exp((single(logits) - single(high)[:, None]) - single(log_sum)[:, None])
    if label_smoothing:
        p = p - label_smoothing / logits.shape[1]
    hot = mx.arange(logits.shape[1]) == column
    return [g * mx.where(hot, p - (1 - label_smoothing), p)]


# Norms -------------------------------------------------------------------------------------------


@fused
def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> list[Any]:
    x = single(x)  # MLX's function rounds 16-bit floats before it multiplies by the weight
    y = mx.fast.layer_norm(x, single(weight), single(bias), eps)
    mean = mx.mean(x, axis=-1, keepdims=True)
    return [y, mean, mx.rsqrt(mx.var(x, axis=-1, keepdims=True) + eps)]


@fused
def layer_norm_grad(g: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> list[Any]:
    g, x, weight = single(g), single(x), single(weight)
    rows = list(range(x.ndim - 1))
    normed = (x - mean) * rstd
    gn = g if weight is None else g * weight
    products = mx.mean(gn * normed, axis=-1, keepdims=True)
    gx = rstd * (gn - mx.mean(gn, axis=-1, keepdims=True) - normed * products)
    return [gx, mx.sum(g * normed, axis=rows), mx.sum(g, axis=rows)]


@fused
def rms_norm(x: Any, weight: Any, eps: float, round_first: bool) -> list[Any]:
    if round_first and weight is not None:
        y, x = mx.fast.rms_norm(x, None, eps) * weight, single(x)
    else:
        x = single(x)
        y = mx.fast.rms_norm(x, single(weight), eps)
    return [y, mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + eps)]


@fused
def rms_norm_grad(g: Any, x: Any, weight: Any, rstd: Any) -> list[Any]:
    g, x, weight = single(g), single(x), single(weight)
    normed = x * rstd
    gn = g if weight is None else g * weight
    gx = rstd * (gn - normed * mx.mean(gn * normed, axis=-1, keepdims=True))
    return [gx, mx.sum(g * normed, axis=list(range(x.ndim - 1)))]


# Transformers ------------------------------------------------------------------------------------


@fused
def linear(x: Any, weight: Any, bias: Any) -> list[Any]:
    """x @ weight.T + bias; 16-bit products are summed in float32 and rounded once."""
    if x.dtype in HALF and bias is not None:
        return [single(x) @ single(weight).T + single(bias)]
    y = x @ weight.T
    return [y if bias is None else y + bias]


@fused
def embedding(weight: Any, indices: Any) -> list[Any]:
    return [mx.take(weight, within(indices, 0, weight.shape[0], 0), axis=0)]


@fused
def rope(x: Any, cos: Any, sin: Any, interleaved: bool) -> list[Any]:
    x, cos, sin = single(x), single(cos), single(sin)
    half = cos.shape[-1]
    if interleaved:
        a, b = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]
    else:
        a, b = x[..., :half], x[..., half : 2 * half]
    parts = [a * cos - b * sin, b * cos + a * sin]
    if interleaved:
        parts = [mx.stack(parts, axis=-1).reshape(*x.shape[:-1], 2 * half)]
    return [mx.concatenate([*parts, x[..., 2 * half :]], axis=-1)]


def _masked(scores: Any, mask: Any, is_causal: bool, window: int | None) -> Any:
    """Scores (B, Hk, G, T, S) plus an additive mask, or with -inf where a bool mask is False."""
    heads, groups, t, s = scores.shape[1:]
    if is_causal:
        row, column = mx.arange(t)[:, None], mx.arange(s)
        mask = column <= row
        if window is not None:
            mask = mask & (column > row - window)
    if mask is None:
        return scores
    if mask.ndim == 4:
        groups = groups if mask.shape[1] == heads * groups else 1
        mask = mask.reshape(mask.shape[0], mask.shape[1] // groups, groups, *mask.shape[2:])
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, -math.inf)
    return scores + single(mask)


def _scores(q: Any, k: Any, scale: float, softcap: float | None) -> Any:
    b, h, t, d = q.shape
    heads, s = k.shape[1], k.shape[2]
    q = q.reshape(b, heads, h // heads, t, d)
    k = mx.swapaxes(k, 2, 3).reshape(b, heads, 1, d, s)
    scores = (q * scale) @ k
    return scores if softcap is None else softcap * mx.tanh(scores / softcap)


@fused
def attention(
    q: Any, k: Any, v: Any, mask: Any, scale: float, is_causal: bool, window: int | None,
    softcap: float | None,
) -> list[Any]:  # fmt: skip
    """Attention by MLX's kernel without a mask or with a plain causal one, otherwise composed: only
    the composed form gives zeros for a row that sees no key."""
    wide_q, wide_k, wide_v = single(q), single(k), single(v)
    rows = (*q.shape[:3], 1)
    scores = _masked(_scores(wide_q, wide_k, scale, softcap), mask, is_causal, window)
    high = mx.max(scores, axis=-1, keepdims=True)
    high = mx.where(mx.isfinite(high), high, 0)
    p = mx.exp(scores - high)
    total = mx.sum(p, axis=-1, keepdims=True)
    empty = total == 0
    total = mx.where(empty, 1, total)
    log_sum = mx.where(empty, math.inf, mx.log(total))
    if (
        mask is None
        and softcap is None
        and window is None
        and (not is_causal or q.shape[2] == k.shape[2])
    ):
        kind = "causal" if is_causal else None
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=kind)
    else:
        out = ((p / total) @ wide_v[:, :, None]).reshape(*q.shape[:3], v.shape[-1])
    return [out, high.reshape(rows), log_sum.reshape(rows)]


@fused
def attention_grad(
    g: Any, q: Any, k: Any, v: Any, out: Any, high: Any, log_sum: Any, mask: Any, scale: float,
    is_causal: bool, window: int | None, softcap: float | None,
) -> list[Any]:  # fmt: skip
    g, q, k, v, out = (single(x) for x in (g, q, k, v, out))
    b, h, t, d = q.shape
    heads = k.shape[1]
    grouped = (b, heads, h // heads, t)
    delta = mx.sum(g * out, axis=-1).reshape(*grouped, 1)
    capped = _scores(q, k, scale, softcap)
    scores = _masked(capped, mask, is_causal, window)
    p = mx.exp((scores - single(high).reshape(*grouped, 1)) - single(log_sum).reshape(*grouped, 1))
    g = g.reshape(*grouped, v.shape[-1])
    gv = mx.sum(mx.swapaxes(p, -1, -2) @ g, axis=2)
    gs = p * (g @ mx.swapaxes(v, -1, -2)[:, :, None] - delta) * scale
    if softcap is not None:
        gs = gs * (1 - (capped / softcap) ** 2)
    gq = (gs @ k[:, :, None]).reshape(q.shape)
    gk = mx.sum(mx.swapaxes(gs, -1, -2) @ q.reshape(*grouped, d), axis=2)
    return [gq, gk, gv]


# Random numbers and optimisers -------------------------------------------------------------------


def _word(x: int) -> Any:
    """A number as uint64."""
    return mx.array(np.asarray([x], np.uint64))


@fused
def philox(key: int, offset: int, blocks: int) -> list[Any]:
    """Philox4x32-10 (Salmon et al. 2011): four 32-bit words per block of the stream."""
    counter = np.uint64(offset) + np.arange(blocks, dtype=np.uint64)
    c0, c1 = mx.array(counter & np.uint64(LOW)), mx.array(counter >> np.uint64(32))
    c2 = c3 = mx.zeros((blocks,), dtype=mx.uint64)
    k0, k1 = key & LOW, key >> 32 & LOW
    for _ in range(10):
        p0, p1 = c0 * _word(MULTIPLIERS[0]), c2 * _word(MULTIPLIERS[1])
        c0, c2 = (p1 >> _word(32)) ^ c1 ^ _word(k0), (p0 >> _word(32)) ^ c3 ^ _word(k1)
        c1, c3 = p1 & _word(LOW), p0 & _word(LOW)
        k0, k1 = k0 + WEYL[0] & LOW, k1 + WEYL[1] & LOW
    return [mx.stack([c0, c1, c2, c3], axis=1).reshape(-1).astype(mx.uint32)]


@fused
def adamw_step(
    *arrays: Any, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int,
    decoupled: bool, maximize: bool,
) -> list[Any]:  # fmt: skip
    """Parameters, gradients, averages, averages of squares: all but the gradients, updated."""
    n = len(arrays) // 4
    correction1, correction2 = 1 - beta1**step, math.sqrt(1 - beta2**step)
    new: tuple[list[Any], list[Any], list[Any]] = [], [], []
    for p, g, m, v in zip(*(map(single, arrays[i * n : i * n + n]) for i in range(4)), strict=True):
        if maximize:
            g = -g
        if weight_decay and not decoupled:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        update = (lr / correction1) * m / (mx.sqrt(v) / correction2 + eps)
        if weight_decay and decoupled:
            p = p * (1 - lr * weight_decay)
        for results, x in zip(new, (p - update, m, v), strict=True):
            results.append(x)
    return [*new[0], *new[1], *new[2]]
