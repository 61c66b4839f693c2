"""Ops that a backend may fuse: softmax, normalisation, cross-entropy, attention, rotary positions.

The formulas and their sources stand with the composed definitions in `gradient.backends.composed`.
"""

from __future__ import annotations

from gradient.autograd.op import op
from gradient.ops.autocast import lowered, widened


@widened
@op(lambda g, be, out, axis: be.softmax_grad(g, out, axis), numbers="float")
def softmax(be, x, /, *, axis):
    """e^x / sum e^x along `axis`."""
    return be.softmax(x, axis)


@widened
@op(lambda g, be, out, axis: be.log_softmax_grad(g, out, axis), numbers="float")
def log_softmax(be, x, /, *, axis):
    """log softmax along `axis`."""
    return be.log_softmax(x, axis)


@widened
@op(lambda g, be, x, weight, mean, rstd: be.layer_norm_grad(g, x, weight, mean, rstd),
    numbers="same float")  # fmt: skip
def layer_norm(be, x, weight=None, bias=None, /, *, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis."""
    y, mean, rstd = be.layer_norm(x, weight, bias, eps)
    return y, {"mean": mean, "rstd": rstd}


@widened
@op(lambda g, be, x, weight, rstd: be.rms_norm_grad(g, x, weight, rstd),
    numbers="same float")  # fmt: skip
def rms_norm(be, x, weight=None, /, *, eps=1e-6, round_first=False):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    y, rstd = be.rms_norm(x, weight, eps, round_first)
    return y, {"rstd": rstd}


@widened
@op(lambda g, be, logits, target, high, log_sum, ignore_index, label_smoothing:
    be.cross_entropy_grad(
        g, logits, target, high, log_sum, ignore_index, label_smoothing),
    numbers="float")  # fmt: skip
def cross_entropy(be, logits, /, *, target, ignore_index=-100, label_smoothing=0.0):
    """Losses (N,) of logits (N, C) for int64 targets (N,); 0 where ignored."""
    losses, high, log_sum = be.cross_entropy(logits, target, ignore_index, label_smoothing)
    return losses, {"high": high, "log_sum": log_sum}


@lowered
@op(lambda g, be, q, k, v, out, high, log_sum, mask, is_causal, scale, window, softcap:
    be.attention_grad(g, q, k, v, out, high, log_sum, mask, is_causal, scale, window, softcap),
    numbers="same float")  # fmt: skip
def attention(be, q, k, v, /, *, mask=None, is_causal=False, scale=1.0, window=None, softcap=None):
    """softmax(scale q k^T + mask) v for q (B, H, T, D), k and v (B, Hk, S, D)."""
    out, high, log_sum = be.attention(q, k, v, mask, is_causal, scale, window, softcap)
    return out, {"high": high, "log_sum": log_sum}


@op(lambda g, be, cos, sin, interleaved: be.rope(g, cos, -sin, interleaved))
def rope(be, x, /, *, cos, sin, interleaved=False):
    """Pairs of x's last axis, or of its first part, turned by the angles of its position."""
    return be.rope(x, cos, sin, interleaved)
