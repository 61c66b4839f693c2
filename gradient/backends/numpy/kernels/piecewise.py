"""Activations in pieces and their gradients over flat arrays, for the elements start to stop.

Numbers that are options come after the arrays.
"""

from gradient.backends.numpy.kernels.compilation import strict_kernel
from gradient.backends.numpy.kernels.functions import exp, tanh
from gradient.backends.numpy.kernels.half_precision import get, put, real


@strict_kernel
def hardtanh_grad(start, stop, g, x, y, low, high):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    low_, high_, zero = x.dtype.type(low), x.dtype.type(high), x.dtype.type(0)
    for i in range(x.size):
        slope, outside = g[i], (x[i] <= low_) | (x[i] >= high_)
        y[i] = zero if outside else slope


@strict_kernel
def clamp(start, stop, x, y, low, high):
    """Of `hardtanh`, too; x and y as `half_precision.stored`."""
    x, y = x[start:stop], y[start:stop]
    low_, high_ = real(x, low), real(x, high)
    for i in range(x.size):
        u = get(x, i)
        v = low_ if u < low_ else u
        put(y, i, high_ if v > high_ else v)


@strict_kernel
def clamp_grad(start, stop, g, x, y, low, high):
    """All as `half_precision.stored`."""
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    low_, high_, zero = real(x, low), real(x, high), real(x, 0)
    for i in range(x.size):
        slope, u = get(g, i), get(x, i)
        put(y, i, slope if (u >= low_) & (u <= high_) else zero)


@strict_kernel
def hardshrink(start, stop, x, y, low, high, value):
    x, y = x[start:stop], y[start:stop]
    low_, high_, value_ = x.dtype.type(low), x.dtype.type(high), x.dtype.type(value)
    for i in range(x.size):
        v = x[i]
        y[i] = value_ if (v >= low_) & (v <= high_) else v


@strict_kernel
def hardshrink_grad(start, stop, g, x, y, low, high):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    low_, high_, zero = x.dtype.type(low), x.dtype.type(high), x.dtype.type(0)
    for i in range(x.size):
        slope, inside = g[i], (x[i] >= low_) & (x[i] <= high_)
        y[i] = zero if inside else slope


@strict_kernel
def softshrink(start, stop, x, y, lambd):
    x, y = x[start:stop], y[start:stop]
    far, zero = x.dtype.type(lambd), x.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        lower, upper = v - far, v + far
        moved = lower if v > far else upper
        y[i] = zero if (v >= -far) & (v <= far) else moved


@strict_kernel
def leaky_relu(start, stop, x, y, slope):
    x, y = x[start:stop], y[start:stop]
    zero, slope_ = x.dtype.type(0), x.dtype.type(slope)
    for i in range(x.size):
        low = x[i] * slope_
        y[i] = x[i] if x[i] > zero else low


@strict_kernel
def leaky_relu_grad(start, stop, g, x, y, slope):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    zero, slope_ = x.dtype.type(0), x.dtype.type(slope)
    for i in range(x.size):
        high = g[i]
        low = high * slope_
        y[i] = high if x[i] > zero else low


@strict_kernel
def hardsigmoid(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for i in range(x.size):
        v = x[i] + three
        v = zero if v < zero else v
        y[i] = (six if v > six else v) / six


@strict_kernel
def hardsigmoid_grad(start, stop, g, x, y):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for i in range(x.size):
        slope, inside = g[i] / six, (x[i] > -three) & (x[i] < three)
        y[i] = slope if inside else zero


@strict_kernel
def hardswish(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for i in range(x.size):
        v = x[i] + three
        v = zero if v < zero else v
        y[i] = x[i] * (six if v > six else v) / six


@strict_kernel
def hardswish_grad(start, stop, g, x, y):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    zero, one = x.dtype.type(0), x.dtype.type(1)
    three, half = x.dtype.type(3), x.dtype.type(0.5)
    for i in range(x.size):
        slope = x[i] / three + half
        slope = slope if x[i] < three else one
        product = g[i] * slope
        y[i] = zero if x[i] <= -three else product


@strict_kernel
def elu(start, stop, x, y, alpha, stretch, scale):
    """e^v - 1 is 2 t / (1 - t) for t = tanh(v / 2), by which no digits are lost near 0."""
    x, y = x[start:stop], y[start:stop]
    zero, one, two = x.dtype.type(0), x.dtype.type(1), x.dtype.type(2)
    alpha_, stretch_, scale_ = x.dtype.type(alpha), x.dtype.type(stretch), x.dtype.type(scale)
    for i in range(x.size):
        v = x[i] if x[i] < zero else zero
        v = v / stretch_
        t, far = tanh(v / two), exp(v) - one
        near = two * t / (one - t)
        low = (far if v > one else near) * alpha_  # above 0 with a negative stretch
        y[i] = (low if x[i] < zero else x[i]) * scale_


@strict_kernel
def elu_grad(start, stop, g, x, y, alpha, stretch, scale):
    g, x, y = g[start:stop], x[start:stop], y[start:stop]
    zero, one = x.dtype.type(0), x.dtype.type(1)
    stretch_, scale_ = x.dtype.type(stretch), x.dtype.type(scale)
    slope = x.dtype.type(alpha / stretch)
    for i in range(x.size):
        v = x[i] if x[i] < zero else zero
        low = exp(v / stretch_) * slope
        straight = slope if x[i] == zero else one
        y[i] = (low if x[i] < zero else straight) * scale_ * g[i]
