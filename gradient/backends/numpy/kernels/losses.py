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
