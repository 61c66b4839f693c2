"""The error function, its complement and inverse, and the normal distribution, for numbers.

Most are computed in float64: of float32 numbers they are then the nearest ones but for rare ties.
exp(x^2) erfc(x) is a polynomial in (x - 2) / (x + 2), divided by x + 2 (Shepherd and Laframboise
1981, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf"), and exp(-x^2) is
computed of the rounded square and of what the rounding left.
"""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.elementwise import ERF_FAR, ERF_NEAR
from gradient.backends.numpy.kernels.arithmetic import choose, polynomial, product_sum, with_sign
from gradient.backends.numpy.kernels.compilation import of_numbers
from gradient.backends.numpy.kernels.functions import F4, I4, POWER4, ROUND_ONCE4, exp
from gradient.backends.numpy.kernels.logarithm import log

# Of erf(x) / x - 1 in x^2 for x up to 0.9, and of -log2(erfc(x)) in x from there to 4, where erf
# is 1.
ERF_NEAR4 = (
    8.512859137e-05, -0.00081755881039, 0.0052038556018, -0.02686050767, 0.11283715038,
    -0.37612634982, 0.1283791668,
)  # fmt: skip
ERF_FAR4 = (
    3.0939820099e-05, -0.00063266999753, 0.0060461520579, -0.036315310831, 0.15633277747,
    0.91361887931, 1.6295991721, -0.0002632429714,
)  # fmt: skip
# Of (x + 2) exp(x^2) erfc(x) in (x - 2) / (x + 2).
SCALED_TAIL = (
    2.5425632853646146e-09, 2.0707397205802343e-09, -2.034986212393202e-08, -2.6138700805674718e-08,
    6.055963014695962e-08, 1.3851384956893303e-07, -7.543558005787736e-09, -3.5607608685781545e-07,
    -5.666171333278865e-07, 2.6227584441997774e-08, 1.9985728273154868e-06, 3.6309353692730946e-06,
    -1.1240012680901018e-06, -1.611614635135346e-05, -2.1696672656926098e-05,
    3.4147683275497275e-05, 0.0001444708290130594, 3.437163952663793e-05, -0.0006630735140014407,
    -0.0008372960835631573, 0.0030906120597530965, 0.006479185068956941, -0.021510661889506913,
    -0.036442231506911435, 0.2794720925560551, -0.6871606844138103, 1.021582705242023,
)  # fmt: skip
# Of erfinv(x) / x - 1 in w - 1, w = -log(1 - x^2), up to 5; and in sqrt(w) - 3 from there on.
INVERSE_NEAR4 = (
    -8.7904460929e-09, 1.419051562e-07, -5.2467290338e-07, -4.4015907164e-06, 3.8228927185e-05,
    0.00010028139693, -0.002376442678, 0.0042506428238, 0.2478328901, 0.1273743989,
)  # fmt: skip
INVERSE_FAR4 = (
    0.00012897702379, -0.00031874517446, -7.6629429411e-05, 0.0014958849773, -0.0035869879898,
    0.0056831602642, -0.0076394085277, 0.0094456861369, 1.0016750865, 1.8329767956,
)  # fmt: skip
# Of erfinv(x) / x in w - 1 up to w = 6.2; and from there of erfinv(x) / v in 1 / v - 0.2, where
# v = sqrt(-log(1 - x)).
INVERSE_NEAR8 = (
    3.3756742387862762e-21, -1.6599514735214367e-19, 3.546178087805592e-18, -4.131886595254864e-17,
    2.524955077661187e-16, -2.9371930574362993e-16, -6.525014356041606e-15, 3.122534108741801e-14,
    1.398220648003176e-13, -1.360041991332559e-12, -3.698902258686552e-12, 6.753789331878964e-11,
    1.659524264210392e-11, -3.024113082549112e-09, 6.040069867614607e-09, 1.2231712572779448e-07,
    -5.652251703383924e-07, -4.275585720609089e-06, 3.82018724653187e-05, 0.00010012177623566979,
    -0.0023763699555752675, 0.004250709244824071, 0.24783287028621073, 1.1273743936892278,
)  # fmt: skip
INVERSE_TAIL8 = (
    -26584.50551163882, 11349.048932524322, -332.2708780124965, -295.7589912471206,
    -31.929205765927517, 24.16127750537411, -5.542600714226424, 1.8853359948366881,
    -1.0489630432270853, 0.7786386823149021, -0.37699419825127, -0.3437189958253579,
    0.9558769759438442,
)  # fmt: skip

_near4, _far4, _near8 = polynomial(ERF_NEAR4), polynomial(ERF_FAR4), polynomial(ERF_NEAR[::-1])
_far8 = polynomial(ERF_FAR[::-1])
_power4 = polynomial((*POWER4, 0.0))
_scaled = polynomial(SCALED_TAIL)
_inverse_near4, _inverse_far4 = polynomial(INVERSE_NEAR4), polynomial(INVERSE_FAR4)
_inverse_near8, _inverse_tail8 = polynomial(INVERSE_NEAR8), polynomial(INVERSE_TAIL8)
SQRT_HALF, SQRT_2, HALF_SQRT_PI = math.sqrt(0.5), math.sqrt(2), math.sqrt(math.pi) / 2
TAIL = 0.002
"""The 1 - |x| below which `erfinv` takes a step of Newton's method on log(erfc)."""


@of_numbers
def erf4(x):
    """In float32."""
    a = abs(x)
    near = product_sum(a, _near4(a * a), a)
    b = choose(a < F4(4), a, F4(4))
    shifted = ROUND_ONCE4 - _far4(b)
    n = shifted - ROUND_ONCE4
    p = _power4((F4(0) - _far4(b)) - n)
    power = I4(F4(shifted).view(I4) << I4(23)).view(F4)
    y = choose(a < F4(0.9), near, F4(1) - (p * power + power))
    return choose(x == x, with_sign(y, x), x)


@of_numbers
def _erfcx_above_0(a):
    d = 1.0 / (a + 2.0)
    return d * _scaled(1.0 - 4.0 * d)


@of_numbers
def _gaussian(a, scale):
    """exp(scale a^2)"""
    square = a * a
    rest = product_sum(a, a, -square)
    e = exp(scale * square)
    return choose(e < np.inf, e + e * (scale * rest), e)


@of_numbers
def erf8(x):
    a = abs(x)
    near = a * _near8(a * a)
    b = choose(a < 6.0, a, 6.0)
    d = 1.0 / (b + 3.0)
    far = 1.0 - exp(-b * b) * (d * _far8((b - 3.0) * d))
    y = choose(a < 1.0, near, far)
    return choose(x == x, with_sign(y, x), x)


@of_numbers
def erfc(x):
    a = abs(x)
    near = 1.0 - x * _near8(a * a)
    b = choose(a < 28.0, a, 28.0)  # where it is 0
    tail = _gaussian(b, -1.0) * _erfcx_above_0(b)
    y = choose(a < 0.5, near, choose(x < 0.0, 2.0 - tail, tail))
    return choose(x == x, y, x)


@of_numbers
def erfcx(x):
    a = abs(x)
    b = choose(a < 28.0, a, 28.0)  # where exp(x^2) is infinite
    above = _erfcx_above_0(a)
    y = choose(x < 0.0, 2.0 * _gaussian(b, 1.0) - above, above)
    y = choose(x == 0.0, 1.0, y)
    return choose(x == x, y, x)


@of_numbers
def _lower_tail(a):
    """ndtr(-a)"""
    b = choose(a < 39.0, a, 39.0)  # where it is 0
    return 0.5 * _gaussian(b, -0.5) * _erfcx_above_0(b * SQRT_HALF)


@of_numbers
def ndtr(x):
    a = abs(x)
    tail = _lower_tail(a)
    y = choose(x < 0.0, tail, 1.0 - tail)
    y = choose(x == 0.0, 0.5, y)
    return choose(x == x, y, x)


@of_numbers
def log_ndtr(x):
    """Below -1 by erfcx, as ndtr underflows; above 0 the log of 1 - tail, with what its rounding
    left."""
    a = abs(x)
    tail = _lower_tail(a)
    upper = 1.0 - tail
    left = ((1.0 - upper) - tail) / upper
    inside = choose(x < 0.0, tail, upper)
    scaled = 0.5 * _erfcx_above_0(a * SQRT_HALF)
    is_low = x < -1.0
    further = choose(is_low, -0.5 * x * x, choose(x < 0.0, 0.0, left))
    y = log(choose(is_low, scaled, inside)) + further
    y = choose(x > 9.0, -tail, y)  # also -0
    return choose(x == x, y, x)


@of_numbers
def _inverse(x, product, missing):
    """erfinv(x) for |x| < 1, product = (1 - x)(1 + x) and missing = 1 - |x|."""
    is_tail = missing < TAIL
    w = 0.0 - log(choose(is_tail, missing, product))
    near = x * _inverse_near8(w - 1.0)
    w = choose(is_tail, w, 16.0)
    v = math.sqrt(w)
    y = v * _inverse_tail8(1.0 / v - 0.2)
    scaled = _erfcx_above_0(y)
    gap = scaled * exp(product_sum(-y, y, w)) - 1.0
    y = y + (gap - 0.5 * gap * gap) * (HALF_SQRT_PI * scaled)
    return choose(is_tail, with_sign(y, x), near)


@of_numbers
def is_inside(x):
    return 1.0 - abs(x) >= TAIL


@of_numbers
def erfinv_inside(x):
    a = abs(x)
    w = 0.0 - log((1.0 - a) * (1.0 + a))
    return x * _inverse_near8(w - 1.0)


@of_numbers
def is_probable(x):
    """Whether x and 1 - x are at least half of TAIL."""
    return is_inside(2.0 * x - 1.0)


@of_numbers
def ndtri_inside(x):
    w = 0.0 - log(4.0 * x * (1.0 - x))
    return SQRT_2 * ((2.0 * x - 1.0) * _inverse_near8(w - 1.0))


@of_numbers
def erfinv4(x):
    """In float32."""
    a = abs(x)
    w = F4(0) - log((F4(1) - a) * (F4(1) + a))
    far = _inverse_far4(F4(math.sqrt(choose(w < F4(16), w, F4(16)))) - F4(3))
    y = product_sum(x, choose(w < F4(5), _inverse_near4(w - F4(1)), far), x)
    y = choose(a < F4(1), y, F4(np.nan))
    return with_sign(choose(a == F4(1), F4(np.inf), y), x)


@of_numbers
def erfinv8(x):
    a = abs(x)
    y = _inverse(x, (1.0 - a) * (1.0 + a), 1.0 - a)
    y = choose(a < 1.0, y, np.nan)
    return choose(a == 1.0, with_sign(np.inf, x), y)


@of_numbers
def ndtri(x):
    """sqrt(2) erfinv(2x - 1), where 1 - |2x - 1| is known exactly."""
    rest = 1.0 - x
    least = choose(x < rest, x, rest)
    y = SQRT_2 * _inverse(2.0 * x - 1.0, 4.0 * x * rest, 2.0 * least)
    y = choose((x > 0.0) & (x < 1.0), y, np.nan)
    y = choose(x == 0.0, -np.inf, y)
    return choose(x == 1.0, np.inf, y)
