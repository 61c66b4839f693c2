"""Elementwise activation functions, each with its derivative beside it.

Softmax is in `gradient.ops.fused`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend


@op(lambda g, be, out: be.sigmoid_grad(g, out), promotion="int_to_float", takes_complex=True)
def sigmoid(be: Backend[Array], x: Array, /) -> Array:
    """1 / (1 + e^-input), elementwise."""
    return be.sigmoid(x)


@op(lambda g, be, x, eps: logit_grad(be, g, x, eps), promotion="int_to_float")
def logit(be: Backend[Array], x: Array, /, *, eps: float | None = None) -> Array:
    """log(x / (1 - x)), the inverse of sigmoid, with x clamped to [eps, 1 - eps]."""
    if eps is not None:
        low, high = be.full((), eps, x.dtype), be.full((), 1 - eps, x.dtype)
        x = be.minimum(be.maximum(x, low), high)
    return be.log(x / (1 - x))


def logit_grad(be: Backend, g: Any, x: Any, eps: float | None) -> Any:
    """g / (x (1 - x)). Outside [eps, 1 - eps] it is 0; without eps, outside [0, 1], NaN."""
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
    """max(input, 0), elementwise, with derivative 0 at 0."""
    return be.relu(x)


@op(lambda g, be, x, beta, threshold: be.softplus_grad(g, x, beta, threshold),
    promotion="float_only", autocast="float32_on_gpu")  # fmt: skip
def softplus(
    be: Backend[Array], x: Array, /, *, beta: float = 1.0, threshold: float = 20.0
) -> Array:
    """log(1 + e^(beta x)) / beta"""
    return be.softplus(x, beta, threshold)


@op(lambda g, be, x: be.silu_grad(g, x), promotion="float_only")
def silu(be: Backend[Array], x: Array, /) -> Array:
    """x sigmoid(x)"""
    return be.silu(x)


@op(lambda g, be, x: g * mish_slope(be, x), promotion="float_only")
def mish(be: Backend[Array], x: Array, /) -> Array:
    """x tanh(log(1 + e^x))"""
    return x * be.tanh(be.softplus(x))


def mish_slope(be: Backend, x: Any) -> Any:
    """tanh(softplus(x)) + x sigmoid(x) (1 - tanh(softplus(x))^2). Each factor is finite, so for
    large x the product is 0, not inf times 0."""
    t = be.tanh(be.softplus(x))
    return t + x * be.sigmoid(x) * (1 - t * t)


@op(lambda g, be, x, axis: be.glu_grad(g, x, axis), promotion="float_only")
def glu(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """a sigmoid(b), with a and b the halves of x along `axis`, which is not negative."""
    return be.glu(x, axis)


@op(lambda g, be, x, low, high: be.hardshrink_grad(g, x, low, high), promotion="float_only")
def hardshrink(
    be: Backend[Array], x: Array, /, *, low: float, high: float, value: float = 0.0
) -> Array:
    """`value` where low <= x <= high, else x"""
    return be.hardshrink(x, low, high, value)


@op(lambda g, be, x, lambd: be.hardshrink_grad(g, x, -lambd, lambd), promotion="float_only")
def softshrink(be: Backend[Array], x: Array, /, *, lambd: float) -> Array:
    """sign(x) max(|x| - lambd, 0)"""
    return be.softshrink(x, lambd)


@op(lambda g, be, x, weight: be.prelu_grad(g, x, weight), promotion="same_dtype")
def prelu(be: Backend[Array], x: Array, weight: Array, /) -> Array:
    """x where x > 0, else weight x, for a weight that broadcasts to the shape of x"""
    return be.prelu(x, weight)


@op(lambda g, be, s: be.sigmoid_grad(g, s),
    lambda g, grad, s: g * grad * (1 - 2 * s), takes_complex=True)  # fmt: skip
def sigmoid_grad(be: Backend[Array], grad: Array, s: Array, /) -> Array:
    """grad s (1 - s), the gradient of sigmoid, for its result s. As an op its derivative for s is
    one product: the two of s (1 - s) would be inf - inf for an infinite grad."""
    return be.sigmoid_grad(grad, s)


@op(lambda g, be, x, low, high: be.hardtanh_grad(g, x, low, high), promotion="float_only")
def hardtanh(be: Backend[Array], x: Array, /, *, low: float, high: float) -> Array:
    """x clamped to [low, high]"""
    return be.hardtanh(x, low, high)


@op(lambda g, be, x, slope: be.leaky_relu_grad(g, x, slope), promotion="float_only")
def leaky_relu(be: Backend[Array], x: Array, /, *, slope: float) -> Array:
    """x if x > 0, else slope x"""
    return be.leaky_relu(x, slope)


@op(
    lambda g, be, x, alpha, stretch, scale: be.elu_grad(g, x, alpha, stretch, scale),
    promotion="float_only",
)
def elu(
    be: Backend[Array], x: Array, /, *, alpha: float = 1.0, stretch: float = 1.0, scale: float = 1.0
) -> Array:
    """scale x if x >= 0, else scale alpha (e^(x / stretch) - 1)"""
    return be.elu(x, alpha, stretch, scale)


@op(lambda g, be, x: be.hardsigmoid_grad(g, x), promotion="float_only")
def hardsigmoid(be: Backend[Array], x: Array, /) -> Array:
    """min(max(x + 3, 0), 6) / 6"""
    return be.hardsigmoid(x)


@op(lambda g, be, x: be.hardswish_grad(g, x), promotion="float_only")
def hardswish(be: Backend[Array], x: Array, /) -> Array:
    """x min(max(x + 3, 0), 6) / 6"""
    return be.hardswish(x)


@op(lambda g, be, x, approximate: be.gelu_grad(g, x, approximate), promotion="float_only")
def gelu(be: Backend[Array], x: Array, /, *, approximate: str = "none") -> Array:
    """x times the normal distribution function, or its "tanh" approximation (Hendrycks and Gimpel
    2016)."""
    return be.gelu(x, approximate)


@op(lambda g, be, key, offset, p: be.dropout(key, offset, g, p)[0])
def dropout(be: Backend[Array], x: Array, /, *, key: int, offset: int, p: float) -> Array:
    """x times 0 with probability p, else times 1 / (1 - p). The graph saves no mask, only its
    position in a stream of random numbers: the gradient draws the mask again."""
    return be.dropout(key, offset, x, p)[0]
