"""Ops that a backend may fuse: softmax, normalisation, attention, rotary positions.

For formulas and their sources see the composed definitions in `gradient.backends.composed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend
    from gradient.backends.options import AttentionOptions, SlotMap


@op(lambda g, be, out, axis: be.softmax_grad(g, out, axis),
    promotion="float_only", autocast="float32")  # fmt: skip
def softmax(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """e^x / sum e^x along `axis`."""
    return be.softmax(x, axis)


@op(lambda g, be, out, axis: be.log_softmax_grad(g, out, axis),
    promotion="float_only", autocast="float32")  # fmt: skip
def log_softmax(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """log softmax along `axis`."""
    return be.log_softmax(x, axis)


@op(lambda g, be, x, weight, mean, rstd: be.layer_norm_grad(g, x, weight, mean, rstd),
    promotion="same_float", gradients_without="bias", autocast="float32")  # fmt: skip
def layer_norm(
    be: Backend[Array],
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    eps: float = 1e-5,
) -> tuple[Array, dict[str, Array]]:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis."""
    y, mean, rstd = be.layer_norm(x, weight, bias, eps)
    return y, {"mean": mean, "rstd": rstd}


@op(lambda g, be, x, weight, rstd: be.rms_norm_grad(g, x, weight, rstd),
    promotion="same_float", autocast="float32")  # fmt: skip
def rms_norm(
    be: Backend[Array],
    x: Array,
    weight: Array | None = None,
    /,
    *,
    eps: float = 1e-6,
    round_first: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    y, rstd = be.rms_norm(x, weight, eps, round_first)
    return y, {"rstd": rstd}


@op()
def channel_moments(be: Backend[Array], x: Array, /) -> Array:
    """The mean and the variance (without correction) of each channel of x (N, C, ...): (2, C)."""
    return be.channel_moments(x)


@op(lambda g, be, x, weight, mean, rstd: be.batch_norm_grad(g, x, weight, mean, rstd),
    promotion="same_float", gradients_without="bias")  # fmt: skip
def batch_norm(
    be: Backend[Array],
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    eps: float = 1e-5,
) -> tuple[Array, dict[str, Array]]:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of x (N, C, ...)."""
    y, mean, rstd = be.batch_norm(x, weight, bias, eps)
    return y, {"mean": mean, "rstd": rstd}


@op(lambda g, be, x, weight, mean, rstd, groups:
    be.group_norm_grad(g, x, weight, mean, rstd, groups),
    promotion="same_float", gradients_without="bias", autocast="float32_on_gpu")  # fmt: skip
def group_norm(
    be: Backend[Array],
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    groups: int,
    eps: float = 1e-5,
) -> tuple[Array, dict[str, Array]]:
    """(x - mean) / sqrt(var + eps) * weight + bias for each of `groups` groups of the channels of
    each sample of x (N, C, ...)."""
    y, mean, rstd = be.group_norm(x, weight, bias, groups, eps)
    return y, {"mean": mean, "rstd": rstd}


@op(lambda g, be, q, k, v, out, high, log_sum, mask, options:
    be.attention_grad(g, q, k, v, out, high, log_sum, mask, options),
    promotion="same_float", autocast="lower_precision")  # fmt: skip
def attention(
    be: Backend[Array],
    q: Array,
    k: Array,
    v: Array,
    /,
    *,
    mask: Any = None,
    options: AttentionOptions,
) -> tuple[Array, dict[str, Array]]:
    """softmax(scale q k^T + mask) v for q (B, H, T, D), k and v (B, Hk, S, D)."""
    out, high, log_sum = be.attention(q, k, v, mask, options)
    return out, {"high": high, "log_sum": log_sum}


@op(lambda g, be, q, keys, values, slots, options:
    be.cached_attention_grad(g, q, keys, values, slots, options),
    autocast="lower_precision")  # fmt: skip
def cached_attention(
    be: Backend[Array],
    q: Array,
    /,
    *,
    keys: tuple[Any, ...],
    values: tuple[Any, ...],
    slots: SlotMap,
    options: AttentionOptions,
) -> Array:
    """Attention of q (B, H, T, D) over the slots of a KV cache, without gradients for the cache."""
    return be.cached_attention(q, keys, values, slots, options)


@op()
def stored_vectors(
    be: Backend[Array], codes: Array, /, *, scales: tuple[Any, ...], dtype: Any
) -> Array:
    """The vectors of a quantised KV cache, from its codes and scales."""
    return be.stored_vectors((codes, *scales), dtype)


@op(lambda g, be, cos, sin, interleaved: be.rope(g, cos, -sin, interleaved))
def rope(
    be: Backend[Array], x: Array, /, *, cos: Any, sin: Any, interleaved: bool = False
) -> Array:
    """Rotate pairs of elements of x's last axis, or of its first part, by the position's angles."""
    return be.rope(x, cos, sin, interleaved)
