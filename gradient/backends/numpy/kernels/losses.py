"""Losses of two arrays, added up in parts, and their gradients."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import strict_kernel
from gradient.backends.numpy.kernels.functions import exp, log1p, sigmoid
from gradient.backends.numpy.kernels.reductions import PART, total, total_of_squares


@strict_kernel
def squared_error(start, stop, x, target, out):
    """out = the sums of (x - target)^2 of PART numbers, for the parts start to stop."""
    gaps = np.empty(PART, x.dtype)
    for part in range(start, stop):
        a, b = x[part * PART : (part + 1) * PART], target[part * PART : (part + 1) * PART]
        y = gaps[: a.size]
        for i in range(a.size):
            y[i] = a[i] - b[i]
        out[part] = total_of_squares(y)


@strict_kernel
def scaled_gap(start, stop, scale, x, target, y):
    """y = (x - target) scale[0], for the elements start to stop."""
    x, target, y = x[start:stop], target[start:stop], y[start:stop]
    factor = scale[0]
    for i in range(x.size):
        y[i] = (x[i] - target[i]) * factor


@strict_kernel
def logistic_error(start, stop, x, target, out):
    """out = the sums of (1 - t) x - log(sigmoid(x)) of PART numbers, of the parts start to stop."""
    losses = np.empty(PART, x.dtype)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for part in range(start, stop):
        a, t = x[part * PART : (part + 1) * PART], target[part * PART : (part + 1) * PART]
        y = losses[: a.size]
        for i in range(a.size):
            v = a[i]
            low = zero if v > zero else v  # NaN stays NaN
            y[i] = (one - t[i]) * v - (low - log1p(exp(-abs(v))))
        out[part] = total(y)


@strict_kernel
def logistic_error_grad(start, stop, scale, x, target, y):
    """y = ((1 - t) - sigmoid(-x)) scale[0], for the elements start to stop."""
    x, target, y = x[start:stop], target[start:stop], y[start:stop]
    factor, one = scale[0], x.dtype.type(1)
    for i in range(x.size):
        y[i] = ((one - target[i]) - sigmoid(-x[i])) * factor


@strict_kernel
def huber_error(start, stop, x, target, out, delta, divisor):
    """out = the sums of c (d - c / 2) / divisor of PART numbers, of the parts start to stop, where
    d = x - target and c is d cut to -delta and delta; with delta 0, of |d|."""
    losses = np.empty(PART, x.dtype)
    delta, divisor = x.dtype.type(delta), x.dtype.type(divisor)
    half, low = x.dtype.type(0.5), -delta
    for part in range(start, stop):
        a, t = x[part * PART : (part + 1) * PART], target[part * PART : (part + 1) * PART]
        y = losses[: a.size]
        if low == delta:
            for i in range(a.size):
                y[i] = abs(a[i] - t[i])
        else:
            for i in range(a.size):
                d = a[i] - t[i]
                c = low if d < low else d  # NaN stays NaN
                c = delta if c > delta else c
                y[i] = c * (d - half * c) / divisor
        out[part] = total(y)


@strict_kernel
def huber_error_grad(start, stop, scale, x, target, y, delta, divisor):
    """y = c / divisor scale[0], for the elements start to stop; with delta 0, the sign of d."""
    x, target, y = x[start:stop], target[start:stop], y[start:stop]
    factor, zero, one = scale[0], x.dtype.type(0), x.dtype.type(1)
    delta, divisor = x.dtype.type(delta), x.dtype.type(divisor)
    low = -delta
    if low == delta:
        for i in range(x.size):
            d = x[i] - target[i]
            sign = one if d > zero else zero
            y[i] = (-one if d < zero else sign) * factor
    else:
        for i in range(x.size):
            d = x[i] - target[i]
            c = low if d < low else d
            c = delta if c > delta else c
            y[i] = c / divisor * factor
