"""Angles and powers of numbers, in float64, without branches or library calls."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy.kernels.arithmetic import choose, polynomial, truncated, with_sign
from gradient.backends.numpy.kernels.compilation import of_numbers
from gradient.backends.numpy.kernels.functions import exp
from gradient.backends.numpy.kernels.logarithm import log

ARCTAN8 = (
    0.02276893069507204, -0.04484772370392097, 0.05736798152381222, -0.06649694688716498,
    0.07691063301540305, -0.09090853032869023, 0.1111110965186653, -0.14285714266335447,
    0.19999999999899698, -0.33333333333333254,
)  # fmt: skip
"""Of (arctan(q) - q) / q^3 in q^2, for q up to tan(pi / 8)."""
_arctan8 = polynomial(ARCTAN8)
TAN_PI_8 = math.sqrt(2) - 1
PI, PI_2, PI_4 = math.pi, math.pi / 2, math.pi / 4


@of_numbers
def _is_negative(x):
    """Whether the sign bit is set. (LLVM would carry a final `with_sign` over the rounding to
    float16, and round the number whose sign it is too, from float64: by no instruction.)"""
    return with_sign(1.0, x) < 0.0


@of_numbers
def angle(y, x):
    """The angle of the point (x, y), from -pi to pi, within 2 ulp, of numbers that float32 holds:
    that of the ratio of the smaller to the larger, which is near 0 or near that of pi / 4."""
    a, b = abs(y), abs(x)
    is_steep = a > b
    high, low = choose(is_steep, a, b), choose(is_steep, b, a)
    is_same = low == high
    is_far = (low > high * TAN_PI_8) | (is_same & (high > 0.0))  # inf and inf too
    q = choose(is_far, low - high, low) / choose(is_far, low + high, high)
    q = choose(is_same, 0.0, q)
    z = q * q
    part = q + q * (z * _arctan8(z))
    part = choose(is_far, PI_4 + part, part)
    part = choose(is_steep, PI_2 - part, part)
    part = choose(_is_negative(x), PI - part, part)
    return choose(_is_negative(y), -part, part)


@of_numbers
def arctangent(x):
    return angle(x, 1.0)


@of_numbers
def arcsine(x):
    return angle(x, math.sqrt((1.0 - x) * (1.0 + x)))


@of_numbers
def arccosine(x):
    return angle(math.sqrt((1.0 - x) * (1.0 + x)), x)


@of_numbers
def power(a, b):
    """a^b of numbers that float32 holds, as C's `pow`: 1 for a = 1 or b = 0, even beside NaN."""
    size = exp(b * log(abs(a)))
    is_whole, half = truncated(b) == b, 0.5 * b
    is_odd = is_whole & (truncated(half) != half)
    size = choose(is_odd & _is_negative(a), -size, size)
    size = choose((a < 0.0) & (a > -np.inf) & (not is_whole), np.nan, size)
    is_one = (a == 1.0) | (b == 0.0) | ((a == -1.0) & (abs(b) == np.inf))
    return choose(is_one, 1.0, size)
