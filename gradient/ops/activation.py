"""Activation functions of one element at a time, each with its derivative beside it."""

from __future__ import annotations

import math
from typing import Any

from gradient.autograd.op import op
from gradient.backends import Array, Backend


@op(lambda g, be, out: be.sigmoid_grad(g, out), promotion="int_to_float", takes_complex=True)
def sigmoid(be: Backend[Array], x: Array, /) -> Array:
    """1 / (1 + e^-x)"""
    return be.sigmoid(x)


@op(lambda g, be, x, eps: logit_grad(be, g, x, eps), promotion="int_to_float")
def logit(be: Backend[Array], x: Array, /, *, eps: float | None = None) -> Array:
    """log(x / (1 - x)), the inverse of sigmoid, of x held between `eps` and 1 - eps."""
    if eps is not None:
        low, high = be.full((), eps, x.dtype), be.full((), 1 - eps, x.dtype)
        x = be.minimum(be.maximum(x, low), high)
    return be.log(x / (1 - x))


def logit_grad(be: Backend, g: Any, x: Any, eps: float | None) -> Any:
    """g / (x (1 - x)); beyond the bounds 0, and NaN where there are none, as the value is."""
    low, outside = (0.0, math.nan) if eps is None else (eps, 0.0)
    within = (x >= low) & (x <= 1 - low)
    inner = be.where(within, x, be.full((), 0.5, x.dtype))
    return be.where(within, g / (inner * (1 - inner)), be.full((), outside, x.dtype))


@op(lambda g, be, x: be.logsigmoid_grad(g, x), promotion="int_to_float")
def logsigmoid(be: Backend[Array], x: Array, /) -> Array:
    """log(sigmoid(x)), exact also where the sigmoid rounds to 0 or 1."""
    return be.logsigmoid(x)


@op(lambda g, be, out: be.relu_grad(g, out), promotion="no_bool")
def relu(be: Backend[Array], x: Array, /) -> Array:
    """max(x, 0)"""
    return be.relu(x)


@op(
    lambda g, be, x, beta, threshold: g * softplus_slope(be, x, beta, threshold),
    promotion="float_only",
)
def softplus(
    be: Backend[Array], x: Array, /, *, beta: float = 1.0, threshold: float = 20.0
) -> Array:
    """log(1 + e^(beta x)) / beta"""
    return be.softplus(x, beta, threshold)


def softplus_slope(be: Backend, x: Any, beta: float, threshold: float) -> Any:
    z = x * beta
    slope = be.sigmoid(z)
    slope = be.where(z < threshold, slope, be.detach(slope))  # at the threshold, linear from here
    return be.where(z > threshold, be.full((), 1, slope.dtype), slope)


@op(lambda g, be, x: be.silu_grad(g, x), promotion="float_only")
def silu(be: Backend[Array], x: Array, /) -> Array:
    """x sigmoid(x)"""
    return be.silu(x)


@op(
    lambda g, be, x: be.where(x <= -3, be.full((), 0, g.dtype), g) * hardswish_slope(be, x),
    promotion="float_only",
)
def hardswish(be: Backend[Array], x: Array, /) -> Array:
    """x min(max(x + 3, 0), 6) / 6"""
    low, high = be.full((), 0, x.dtype), be.full((), 6, x.dtype)
    return x * be.minimum(be.maximum(x + 3, low), high) / 6


def hardswish_slope(be: Backend, x: Any) -> Any:
    zero, one = be.full((), 0, x.dtype), be.full((), 1, x.dtype)
    return be.where(x <= -3, zero, be.where(x < 3, x / 3 + 0.5, one))


@op(lambda g, be, x, approximate: be.gelu_grad(g, x, approximate), promotion="float_only")
def gelu(be: Backend[Array], x: Array, /, *, approximate: str = "none") -> Array:
    """x times the normal distribution function, or its "tanh" approximation."""
    return be.gelu(x, approximate)
