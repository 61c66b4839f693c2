"""Sine and cosine of numbers, in float64, without branches or library calls."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy.kernels.arithmetic import choose, polynomial, product_sum
from gradient.backends.numpy.kernels.compilation import of_numbers
from gradient.backends.numpy.kernels.functions import ROUND8

# Of (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 in r^2, for r up to pi / 4.
SINE8 = (
    1.5896847179777186e-10, -2.505075909017149e-08, 2.7557313698803449e-06, -0.0001984126982982975,
    0.008333333333322443, -0.16666666666666632,
)  # fmt: skip
COSINE8 = (
    -1.1359681237507141e-11, 2.0875723914931163e-09, -2.7557314357031668e-07,
    2.4801587289498434e-05, -0.001388888888887415, 0.0416666666666666,
)  # fmt: skip
_sine8, _cosine8 = polynomial(SINE8), polynomial(COSINE8)
MODERATE = 2.0**20
"""The numbers up to which a multiple of pi / 2 in three parts is near enough."""


@of_numbers
def is_moderate(x):
    return abs(x) <= MODERATE


@of_numbers
def _waves(x):
    """Sine and cosine of what is left of a moderate number x after whole quarters of a turn, and
    the number of these in the lowest bits."""
    shifted = x * (2 / math.pi) + ROUND8
    k = shifted - ROUND8
    r = product_sum(-k, 1.5707963267948966, x)
    r = product_sum(-k, 6.123233995736766e-17, r)
    r = product_sum(-k, -1.4973849048591698e-33, r)
    q = r * r
    sine, cosine = r + r * (q * _sine8(q)), 1.0 - q * (0.5 - q * _cosine8(q))
    return sine, cosine, np.float64(shifted).view(np.int64)


@of_numbers
def _wave(x, quarters):
    """The sine of a moderate number plus so many quarters of a turn."""
    sine, cosine, turn = _waves(x)
    turn += quarters
    y = choose((turn & 1) == 0, sine, cosine)
    return choose((turn & 2) == 0, y, -y)


@of_numbers
def sine(x):
    return choose(x == 0.0, x, _wave(x, 0))  # 0 keeps its sign


@of_numbers
def cosine(x):
    return _wave(x, 1)


@of_numbers
def tangent(x):
    sine, cosine, turn = _waves(x)
    even = (turn & 1) == 0
    y = choose(even, sine, -cosine) / choose(even, cosine, sine)
    return choose(x == 0.0, x, y)
