"""Activations and their gradients over flat arrays, for the elements start to stop."""

from __future__ import annotations

from gradient.backends.composed.activation import GELU_CUBIC, GELU_SCALE
from gradient.backends.numpy.kernels.compilation import inlined, strict_kernel
from gradient.backends.numpy.kernels.functions import (
    F4,
    I4,
    MODERATE4,
    MODERATE_GELU4,
    exp,
    log1p,
    normal,
    sigmoid,
    small_exp,
    small_gelu,
    tanh,
)
from gradient.backends.numpy.kernels.functions import gelu as gelu_of
from gradient.backends.numpy.kernels.half_precision import get, put, real

BLOCK = 4096
"""Elements that are tried together by a quicker way, and stay in the first cache."""

SHORT_BLOCK = 64
"""Elements that are tried again by themselves."""

CHUNK = 1 << 15
"""Elements a thread takes at a time: the inputs and output of most kernels fit its L2 cache."""

# Arrays are cut to their part first: with a loop from 0, LLVM knows that no index is negative, and
# vectorises. Constants take the arrays' type by `dtype.type`: Python floats would widen to float64.


@strict_kernel
def relu(start, stop, x, y):
    """x and y as `half_precision.stored`."""
    x, y = x[start:stop], y[start:stop]
    zero = real(x, 0)
    for i in range(x.size):
        u = get(x, i)
        v = zero if u < zero else u
        put(y, i, v)


@strict_kernel
def relu_grad(start, stop, g, out, y):
    """`out` is what relu gave; all are as `half_precision.stored`."""
    g, out, y = g[start:stop], out[start:stop], y[start:stop]
    zero = real(g, 0)
    for i in range(out.size):
        slope = get(g, i)
        put(y, i, zero if get(out, i) <= zero else slope)


@strict_kernel
def where(start, stop, condition, a, b, y):
    """a where the byte of `condition` is not 0, else b: arrays of one size, one of which may be
    a number, of size 1. Both are read before one is chosen: a branch would leave no vectors."""
    condition, y = condition[start:stop], y[start:stop]
    if a.size > 1 and b.size > 1:
        a, b = a[start:stop], b[start:stop]
        for i in range(y.size):
            u, v = a[i], b[i]
            y[i] = u if condition[i] else v
    elif a.size > 1:
        a, v = a[start:stop], b[0]
        for i in range(y.size):
            u = a[i]
            y[i] = u if condition[i] else v
    else:
        u, b = a[0], b[start:stop]
        for i in range(y.size):
            v = b[i]
            y[i] = u if condition[i] else v


@strict_kernel
def exp_of(start, stop, x, y):
    """Of float32. Each block is tried by `small_exp`, unless that would overwrite it."""
    apart = x.ctypes.data != y.ctypes.data
    for first in range(start, stop, BLOCK):
        a, b = x[first : min(first + BLOCK, stop)], y[first : min(first + BLOCK, stop)]
        largest = I4(0)  # of the numbers' bits but the sign
        if apart:
            for i in range(a.size):
                v = a[i]
                largest = max(largest, I4(F4(v).view(I4) & I4(0x7FFFFFFF)))
                b[i] = small_exp(v)
        if not apart or largest > MODERATE4:
            for i in range(a.size):
                b[i] = exp(a[i])


@strict_kernel
def tanh_of(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = tanh(x[i])


@strict_kernel
def sigmoid_of(start, stop, x, y):
    """x and y as `half_precision.stored`."""
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, sigmoid(get(x, i)))


@strict_kernel
def sigmoid_grad(start, stop, g, out, y):
    """`out` is what the sigmoid gave."""
    g, out, y = g[start:stop], out[start:stop], y[start:stop]
    one = out.dtype.type(1)
    for i in range(out.size):
        y[i] = g[i] * (out[i] * (one - out[i]))


@strict_kernel
def logsigmoid(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        low = zero if v > zero else v  # NaN stays NaN
        y[i] = low - log1p(exp(-abs(v)))


@strict_kernel
def logsigmoid_grad(start, stop, g, x, y):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = g[i] * sigmoid(-x[i])


@strict_kernel
def softplus(start, stop, x, y, beta, threshold):
    x, y = x[start:stop], y[start:stop]
    zero, beta, threshold = x.dtype.type(0), x.dtype.type(beta), x.dtype.type(threshold)
    for i in range(x.size):
        z = x[i] * beta
        above = zero if z < zero else z  # NaN stays NaN
        soft = (above + log1p(exp(-abs(z)))) / beta
        y[i] = x[i] if z > threshold else soft


@strict_kernel
def softplus_grad(start, stop, g, x, y, beta, threshold):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    one, beta, threshold = x.dtype.type(1), x.dtype.type(beta), x.dtype.type(threshold)
    for i in range(x.size):
        z = x[i] * beta
        slope = sigmoid(z)
        y[i] = g[i] * (one if z > threshold else slope)


@strict_kernel
def silu(start, stop, x, y):
    """x and y as `half_precision.stored`."""
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, get(x, i) * sigmoid(get(x, i)))


@strict_kernel
def silu_grad(start, stop, g, x, y):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    one = x.dtype.type(1)
    for i in range(x.size):
        s = sigmoid(x[i])
        y[i] = g[i] * (s * (one + x[i] * (one - s)))


@strict_kernel
def gelu(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = gelu_of(x[i])


@strict_kernel
def gelu4(start, stop, x, y):
    """As `gelu`, of float32, in blocks as `exp_of`; where one has larger numbers, they are sought
    in short ones."""
    apart = x.ctypes.data != y.ctypes.data
    for first in range(start, stop, BLOCK):
        a, b = x[first : min(first + BLOCK, stop)], y[first : min(first + BLOCK, stop)]
        largest = I4(0)
        if apart:
            for i in range(a.size):
                v = a[i]
                largest = max(largest, I4(F4(v).view(I4) & I4(0x7FFFFFFF)))
                b[i] = small_gelu(v)
        if not apart or largest > MODERATE_GELU4:
            for at in range(0, a.size, SHORT_BLOCK):
                c, d = a[at : at + SHORT_BLOCK], b[at : at + SHORT_BLOCK]
                largest = I4(0)
                for i in range(c.size):
                    largest = max(largest, I4(F4(c[i]).view(I4) & I4(0x7FFFFFFF)))
                if not apart or largest > MODERATE_GELU4:
                    for i in range(c.size):
                        d[i] = gelu_of(c[i])


@inlined
def _gelu_grad(g, x, y):
    for i in range(x.size):
        cdf, density = normal(x[i])
        y[i] = g[i] * (cdf + x[i] * density)


@strict_kernel
def gelu_grad(start, stop, g, x, y):
    _gelu_grad(g[start:stop], x[start:stop], y[start:stop])


@strict_kernel
def gelu_grad_in_place(start, stop, x, g):
    """The gradient, over g: one array, as LLVM vectorizes no loop over two that overlap."""
    part = g[start:stop]
    _gelu_grad(part, x[start:stop], part)


# (1 + tanh(u)) / 2 is sigmoid(2u), which takes one exponential and one division.


@strict_kernel
def gelu_tanh(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    scale, cubic = x.dtype.type(2 * GELU_SCALE), x.dtype.type(2 * GELU_SCALE * GELU_CUBIC)
    for i in range(x.size):
        v = x[i]
        y[i] = v * sigmoid(v * (scale + cubic * v * v))


@inlined
def _gelu_tanh_grad(g, x, y):
    one = x.dtype.type(1)
    scale, cubic = x.dtype.type(2 * GELU_SCALE), x.dtype.type(2 * GELU_SCALE * GELU_CUBIC)
    slope = x.dtype.type(6 * GELU_SCALE * GELU_CUBIC)
    for i in range(x.size):
        v = x[i]
        s = sigmoid(v * (scale + cubic * v * v))
        y[i] = g[i] * (s + v * s * (one - s) * (scale + slope * v * v))


@strict_kernel
def gelu_tanh_grad(start, stop, g, x, y):
    _gelu_tanh_grad(g[start:stop], x[start:stop], y[start:stop])


@strict_kernel
def gelu_tanh_grad_in_place(start, stop, x, g):
    part = g[start:stop]
    _gelu_tanh_grad(part, x[start:stop], part)
