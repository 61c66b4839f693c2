"""Elementary functions over flat arrays of float32 or float64, for the elements start to stop."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy.kernels import arithmetic
from gradient.backends.numpy.kernels import trigonometry as waves
from gradient.backends.numpy.kernels.arithmetic import choose, with_sign
from gradient.backends.numpy.kernels.compilation import inlined, strict_kernel
from gradient.backends.numpy.kernels.functions import exp
from gradient.backends.numpy.kernels.logarithm import F8
from gradient.backends.numpy.kernels.logarithm import log as log_of

_floored, _truncated, _rounded = arithmetic.floored, arithmetic.truncated, arithmetic.rounded
_raised = arithmetic.raised
_is_moderate, _sine, _cosine = waves.is_moderate, waves.sine, waves.cosine

I8 = np.int64
BLOCK = 512
"""Elements that are looked at together."""


@strict_kernel
def exp_of(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = exp(x[i])


@strict_kernel
def log(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = log_of(x[i])


@strict_kernel
def sqrt(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = math.sqrt(x[i])


@strict_kernel
def floor(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _floored(x[i])


@strict_kernel
def ceil(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _raised(x[i])


@strict_kernel
def trunc(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _truncated(x[i])


@strict_kernel
def round(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _rounded(x[i])


@inlined
def _waves(start, stop, x, y, quick, full):
    """Of float64. Blocks with larger numbers are computed by the C library."""
    for first in range(start, stop, BLOCK):
        a, b = x[first : min(first + BLOCK, stop)], y[first : min(first + BLOCK, stop)]
        others = 0
        for i in range(a.size):
            others |= not _is_moderate(a[i])
        if others:
            for i in range(a.size):
                b[i] = full(a[i])
        else:
            for i in range(a.size):
                b[i] = quick(a[i])


@strict_kernel
def sin(start, stop, x, y):
    _waves(start, stop, x, y, _sine, np.sin)


@strict_kernel
def cos(start, stop, x, y):
    _waves(start, stop, x, y, _cosine, np.cos)


@strict_kernel
def hypot(start, stop, a, b, y):
    """Without overflow; inf if one is infinite, even if the other is NaN."""
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        u, v = abs(F8(a[i])), abs(F8(b[i]))
        high = choose(u > v, u, v)
        # A power of two, which is exact.
        scale = choose(high > 2.0**500, 2.0**-600, choose(high < 2.0**-500, 2.0**600, 1.0))
        c, d = u * scale, v * scale
        size = math.sqrt(c * c + d * d) * (1.0 / scale)
        y[i] = choose((u == np.inf) | (v == np.inf), np.inf, size)


@strict_kernel
def copysign(start, stop, a, b, y):
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        y[i] = with_sign(a[i], b[i])


@strict_kernel
def nextafter(start, stop, a, b, y, a_bits, b_bits, y_bits):
    """By the bits of the arrays: integers, of which the next is the next number from 0 on."""
    a, b, a_bits, b_bits = a[start:stop], b[start:stop], a_bits[start:stop], b_bits[start:stop]
    y_bits, zero = y_bits[start:stop], a.dtype.type(0)
    below = I8(-(2**31) + 1 if a.itemsize == 4 else -(2**63) + 1)  # those of the least number < 0
    for i in range(a.size):
        u, v = a[i], b[i]
        moved = I8(a_bits[i]) + choose((v > u) == (u > zero), I8(1), I8(-1))
        moved = choose(u == zero, choose(v > u, I8(1), below), moved)
        moved = choose((u == v) | (v != v), I8(b_bits[i]), moved)
        y_bits[i] = choose(u == u, moved, I8(a_bits[i]))
