"""The logarithm of the gamma function and its first two derivatives, for numbers of float64.

`composed.special` has the formulas; here each takes one logarithm or quotient where it can.
"""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.special import (
    BERNOULLI,
    LOG_GAMMA_AT_2,
    SHIFT,
    STIRLING,
    STIRLING_SLOPE,
)
from gradient.backends.numpy.kernels.arithmetic import choose, polynomial, rounded, with_sign
from gradient.backends.numpy.kernels.compilation import of_numbers
from gradient.backends.numpy.kernels.logarithm import log

# Of sin(pi x) / x and cos(pi x) in x^2, up to 1/16.
SINPI = (
    0.0004615141723502365, -0.007370018271370551, 0.08214586894698284, -0.5992645289321028,
    2.550164039873266, -5.167712780049954, 3.141592653589793,
)  # fmt: skip
COSPI = (
    -0.00010355598595779931, 0.0019294632215881402, -0.025806885435184154, 0.23533063018155773,
    -1.335262768851712, 4.058712126416745, -4.934802200544679, 1.0,
)  # fmt: skip

_sine, _cosine = polynomial(SINPI), polynomial(COSPI)
_near, _far = polynomial(LOG_GAMMA_AT_2[::-1]), polynomial(STIRLING[::-1])
_slope, _curvature = polynomial(STIRLING_SLOPE[::-1]), polynomial(BERNOULLI[8::-1])
REST = 0.5 * math.log(2 * math.pi) - 0.5
FEW = 1e18
"""Where a sum of 1 / x^2 is 0 beside 1 / x, and x^16 still finite."""


@of_numbers
def _sine_and_cosine(d):
    """sin(pi d) and cos(pi d) for d from 0 to 1/2, by the angle to the nearer axis."""
    is_low = d <= 0.25
    e = choose(is_low, d, 0.5 - d)
    q = e * e
    sine, cosine = e * _sine(q), _cosine(q)
    return choose(is_low, sine, cosine), choose(is_low, cosine, sine)


@of_numbers
def _near_parts(z, size, is_negative):
    """Of log Gamma(z) for z from 0 to SHIFT (of z + 1, if it is to be): the polynomial's part, the
    number whose logarithm comes to it, and whether it is subtracted."""
    product, y = 1.0, z
    for _ in range(SHIFT - 2):
        above = y > 2.5
        y = choose(above, y - 1.0, y)
        product = choose(above, product * y, product)
    is_least, is_low = y < 0.5, y < 1.5
    t = choose(is_least, y, choose(is_low, y - 1.0, y - 2.0))
    factor = choose(is_low, choose(is_least, y * (1.0 + y), y), product)
    next_factor = choose(is_low, choose(is_least, 1.0 + y, 1.0), product * size)
    return t * _near(t), choose(is_negative, next_factor, factor), is_low


@of_numbers
def is_near(x):
    return (x >= 0.0) & (x < SHIFT)


@of_numbers
def lgamma_near(x):
    """lgamma of near numbers."""
    part, factor, is_low = _near_parts(x, x, False)
    logarithm = log(factor)
    return part + choose(is_low, -logarithm, logarithm)


@of_numbers
def lgamma(x):
    """t P(t) or Stirling's series, and a logarithm; for x < 0 by reflection,
    -log(|sin(pi x)| / pi) - log Gamma(|x| + 1)."""
    size, negative = abs(x), x < 0.0
    d = abs(size - rounded(size))
    sine, _ = _sine_and_cosine(d)
    sine = sine * (1 / math.pi)
    is_far = size >= SHIFT
    y = choose(is_far, size, float(SHIFT))
    inverse = 1.0 / y
    rest = REST + inverse * _far(inverse * inverse)
    near, factor, is_low = _near_parts(choose(size < SHIFT, size, float(SHIFT)), size, negative)
    # Of |x|, or for x < 0 of |x| + 1: near -+ log(factor), or (y - 0.5) (log(y) - 1) + rest.
    logarithm = log(choose(is_far, y, factor))
    far = (y - 0.5) * (logarithm - 1.0) + rest + choose(negative, logarithm, 0.0)
    value = choose(is_far, far, near + choose(is_low, -logarithm, logarithm))
    value = choose(negative, -log(sine) - value, value)
    value = choose(x == x, value, x)
    return choose((negative & (d == 0.0)) | (size == np.inf), np.inf, value)


@of_numbers
def is_positive(x):
    return x > 0.0


@of_numbers
def digamma_above_0(above):
    """By the asymptotic series at x + SHIFT, and one quotient for the sum of 1 / (x + k), k = 1,
    2, ..., which is 0 beside the rest where x is large."""
    y = above + SHIFT
    inverse = 1.0 / y
    square = inverse * inverse
    value = log(y) - 0.5 * inverse - square * _slope(square)
    few = choose(above < 1e30, above, 1e30)
    part, whole = 1.0, few + 1.0
    for k in range(2, SHIFT):
        factor = few + k
        part = part * factor + whole
        whole = whole * factor
    return value - part / whole - 1.0 / above


@of_numbers
def digamma(x):
    """Below 0 by reflection."""
    negative = x < 0.0
    value = digamma_above_0(choose(negative, 1.0 - x, x))
    from_integer = x - rounded(x)
    sine, cosine = _sine_and_cosine(abs(from_integer))
    cotangent = with_sign(cosine / sine, from_integer)
    reflected = choose(from_integer == 0.0, np.nan, value - math.pi * cotangent)
    return choose(negative, reflected, value)


@of_numbers
def trigamma_above_0(above):
    """The derivative of digamma: its series at x + SHIFT, and one quotient for the sum of
    1 / (x + k)^2, k = 1, 2, ..."""
    y = above + SHIFT
    inverse = 1.0 / y
    square = inverse * inverse
    value = inverse + 0.5 * square + square * inverse * _curvature(square)
    few = choose(above < FEW, above, FEW)
    part, whole = 1.0, (few + 1.0) * (few + 1.0)
    for k in range(2, SHIFT):
        factor = (few + k) * (few + k)
        part = part * factor + whole
        whole = whole * factor
    first = 1.0 / above
    return value + choose(above < FEW, part / whole, 0.0) + first * first


@of_numbers
def trigamma(x):
    """Below 0 by reflection, (pi / sin(pi x))^2 - trigamma(1 - x)."""
    low = x <= 0.0
    value = trigamma_above_0(choose(low, 1.0 - x, x))
    sine, _ = _sine_and_cosine(abs(x - rounded(x)))
    steep = math.pi / sine
    value = choose(low, steep * steep - value, value)
    return choose(x == -np.inf, np.inf, value)
