"""Functions of numbers without branches or library calls: LLVM turns loops over them into vectors.

`exp` is within 1.1 ulp of the exact value: of float32 at most one number from the nearest one.
The polynomials' coefficients were found by Remez exchange in 60-digit arithmetic, for the least
relative error.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from gradient.backends.numpy.kernels.compilation import STRICT

# numba widens int32 arithmetic to int64. Narrowing each step again keeps 16 lanes to a vector.
F4, I4 = np.float32, np.int32

LOG2_E4, LOG2_E8 = F4(1.4426950408889634), 1.4426950408889634
LOG2_E_TWICE4, HALF_LOG_2 = F4(2.8853900817779268), F4(0.34657359027997264)
# The coefficients of (e^r - 1 - r) / r^2, the highest first.
EXP4 = (F4(0.0013814660), F4(0.0083687027), F4(0.041668386), F4(0.16666521), F4(0.49999993))
# Those of (e^2r - 1) / r, and of (tanh(x) - x) / x^3 in x^2.
SQUARE4 = (
    *(F4(0.0891753026), F4(0.2678127517), F4(0.6666634401)),
    *(F4(1.333320421), F4(2.000000005), F4(2.000000022)),
)
TANH4 = (
    *(F4(-0.00570497775), F4(0.02063907782), F4(-0.0537397117)),
    *(F4(0.1333144215), F4(-0.3333328194)),
)
# Those of (2^r - 1) / r.
POWER4 = (
    *(F4(1.5476388168e-4), F4(1.3400269886e-3), F4(0.0096180035304)),
    *(F4(0.055503277922), F4(0.24022651349), F4(0.69314720625)),
)
# Of q = -log2(Phi(-a)): those of (q - 1) / a for a from 0 to 6, and of q - HALF_LOG2_E4 a^2 in
# a - 9 from there to 14.5, where Phi is 0 in float32.
TAIL_NEAR4 = (
    *(F4(-2.4312910231e-9), F4(9.1701735121e-8), F4(-1.5328115625e-6), F4(1.4828038759e-5)),
    *(F4(-8.9099389012e-5), F4(3.028321555e-4), F4(-2.0240936068e-5), F4(-0.0069455506619)),
    *(F4(0.052451311013), F4(0.4592151948), F4(1.1511049709)),
)
TAIL_FAR4 = (
    *(F4(1.4523622057e-10), F4(-2.5134612478e-9), F4(2.4425361029e-8), F4(-2.7185521951e-7)),
    *(F4(3.4641122919e-6), F4(-4.3889408425e-5), F4(5.7496348071e-4), F4(-0.0083059294283)),
    *(F4(0.15656578842), F4(4.5129658863)),
)
EXP8 = (
    *(2.4999950963104772335e-8, 2.7630195692293963804e-7, 2.7557586502445276569e-6),
    *(2.4801493253544156586e-5, 1.9841269506733128964e-4, 1.3888888943471455892e-3),
    *(8.3333333334942160128e-3, 0.04166666666653081583, 0.16666666666666413277),
    0.50000000000000105385,
)
# log(2) in two parts: the first has so few bits that its product with an exponent is exact.
LOG_2_HIGH4, LOG_2_LOW4 = F4(0.693359375), F4(-2.12194440054690583e-4)
LOG_2_HIGH8, LOG_2_LOW8 = 0.6931471803691238, 1.9082149292705877e-10
# Adding 1.5 * 2^(mantissa bits) rounds to an integer, which then stands in the lowest bits.
ROUND4, ROUND8 = F4(12582912.0), 6755399441055744.0
ROUND_BITS4, ROUND_BITS8 = I4(0x4B400000), 0x4338000000000000
# The same, where that integer is to have an exponent's bias, once or twice.
ROUND_ONCE4, ROUND_TWICE4 = F4(12582912.0 + 127), F4(12582912.0 + 254)
# The bits of ROUND_ONCE4 - 126, of the least power of two that is normal.
ROUND_BITS_LEAST4 = I4(0x4B400001)
# Of 87 and 6: of what size numbers may be for the quicker ways.
MODERATE4, MODERATE_GELU4 = I4(0x42AE0000), I4(0x40C00000)
EXPONENT4, SIGN4, UPPER4 = I4(0x7F800000), I4(-(2**31)), I4(-(2**12))
HALF_LOG2_E4 = F4(0.7213475204444817)
SQRT_2PI8 = 2.5066282746310002
INV_SQRT_2PI4, INV_SQRT_2PI8 = F4(0.3989422804014327), 0.3989422804014327


def exp(x: float) -> float:
    """e^x as 2^n e^r with |r| <= log(2)/2; 2^n is put together from bits, in two factors so that
    subnormal results and those near the largest number come out right."""
    raise NotImplementedError("kernels only")


@register_jitable(**STRICT)
def _split4(x, rounding):
    """e^r - 1 of e^x = 2^n e^r, and the bits of `rounding` + n, a number as ROUND4."""
    shifted = x * LOG2_E4 + rounding
    n = shifted - rounding
    r = (x - n * LOG_2_HIGH4) - n * LOG_2_LOW4
    p = EXP4[0] * r + EXP4[1]
    p = p * r + EXP4[2]
    p = p * r + EXP4[3]
    p = p * r + EXP4[4]
    return p * (r * r) + r, F4(shifted).view(I4)


def _exp4(x):
    p, bits = _split4(min(max(x, F4(-104)), F4(89)), ROUND_TWICE4)
    # The exponents with their bias of 127 are halves of n + 254.
    half = I4(I4(bits << I4(22)) & EXPONENT4)
    first, second = half.view(F4), I4(I4(bits << I4(23)) - half).view(F4)
    return (p * first + first) * second


@register_jitable(**STRICT)
def small_exp(x: float) -> float:
    """`exp` of a float32 number from -87 to 87: the same bits, in two thirds of the time."""
    p, bits = _split4(x, ROUND_ONCE4)
    power = I4(bits << I4(23)).view(F4)
    return p * power + power


@register_jitable(**STRICT)
def _split8(x):
    shifted = x * LOG2_E8 + ROUND8
    n = shifted - ROUND8
    r = (x - n * LOG_2_HIGH8) - n * LOG_2_LOW8
    p = EXP8[0] * r + EXP8[1]
    p = p * r + EXP8[2]
    p = p * r + EXP8[3]
    p = p * r + EXP8[4]
    p = p * r + EXP8[5]
    p = p * r + EXP8[6]
    p = p * r + EXP8[7]
    p = p * r + EXP8[8]
    p = p * r + EXP8[9]
    return np.float64(shifted).view(np.int64) - ROUND_BITS8, p * (r * r) + r


def _exp8(x):
    bits, p = _split8(min(max(x, -746.0), 710.0))
    half = bits >> 1
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((bits - half + 1023) << 52).view(np.float64)
    return (p + 1.0) * first * second


@overload(exp, jit_options=STRICT)
def _exp(x):
    return _exp4 if x == types.float32 else _exp8


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)"""
    raise NotImplementedError("kernels only")


@overload(sigmoid, jit_options=STRICT)
def _sigmoid(x):
    if x == types.float32:
        return lambda x: F4(1) / (F4(1) + exp(-x))
    return lambda x: 1.0 / (1.0 + exp(-x))


def log1p(x: float) -> float:
    """log(1 + x) for x from 0 to 1, as 2 artanh(s), s = x / (2 + x), by the series of that: s is at
    most 1/3, and small numbers keep their digits."""
    raise NotImplementedError("kernels only")


def _log1p4(x):
    s = x / (x + F4(2))
    q = s * s
    p = F4(1 / 15)
    for k in (13, 11, 9, 7, 5, 3, 1):
        p = p * q + F4(1 / k)
    return (s + s) * p


def _log1p8(x):
    s = x / (x + 2.0)
    q = s * s
    p = 1 / 35
    for k in (33, 31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1):
        p = p * q + 1 / k
    return (s + s) * p


@overload(log1p, jit_options=STRICT)
def _log1p(x):
    return _log1p4 if x == types.float32 else _log1p8


def tanh(x: float) -> float:
    """In float32 1 - 2 / (e^2|x| + 1), or near 0 a polynomial: at most one float32 number from the
    nearest one. In float64 (e^2x - 1) / (e^2x + 1), where e^2|x| - 1 = 2^n (e^r - 1) + (2^n - 1)
    keeps its digits near 0: within 2.5 ulp of the exact value."""
    raise NotImplementedError("kernels only")


def _tanh4(x):
    a = abs(x)
    q = a * a
    p = TANH4[0] * q + TANH4[1]
    p = p * q + TANH4[2]
    p = p * q + TANH4[3]
    p = p * q + TANH4[4]
    near = p * (q * a) + a
    b = min(a, F4(10))  # where tanh is 1
    shifted = b * LOG2_E_TWICE4 + ROUND_ONCE4
    n = shifted - ROUND_ONCE4
    r = b - n * HALF_LOG_2
    e = SQUARE4[0] * r + SQUARE4[1]
    e = e * r + SQUARE4[2]
    e = e * r + SQUARE4[3]
    e = e * r + SQUARE4[4]
    e = e * r + SQUARE4[5]
    power = I4(F4(shifted).view(I4) << I4(23)).view(F4)
    far = F4(1) - F4(2) / (e * (power * r) + (power + F4(1)))
    y = F4(near if a < F4(0.625) else far)
    return I4(y.view(I4) | I4(F4(x).view(I4) & SIGN4)).view(F4)


def _tanh8(x):
    bits, p = _split8(min(2.0 * abs(x), 40.0))
    power = np.int64((bits + 1023) << 52).view(np.float64)
    e = power * p + (power - 1.0)
    y = e / (e + 2.0)
    return -y if x < 0.0 else y


@overload(tanh, jit_options=STRICT)
def _tanh(x):
    return _tanh4 if x == types.float32 else _tanh8


def normal(x: float) -> tuple[float, float]:
    """The normal distribution's function Phi(x) and density.

    Phi(-|x|) is density * M(|x|), where M (Mills' ratio) times |x| + k is a polynomial in
    (|x| - k) / (|x| + k): so the far tail keeps its digits, which 1 + erf would cancel.
    """
    raise NotImplementedError("kernels only")


@register_jitable(**STRICT)
def _mills4(a):
    """sqrt(2 pi) times Phi(-a) over the density, for a from 0 on."""
    d = F4(1) / (a + F4(4))
    t = (a - F4(4)) * d
    p = F4(-0.0001295266262) * t + F4(0.0001846347392)
    p = p * t + F4(0.0015718619218)
    p = p * t + F4(-0.0035149843048)
    p = p * t + F4(-0.0075267292831)
    p = p * t + F4(0.06040414345)
    p = p * t + F4(-0.18652320594)
    p = p * t + F4(0.38713688986)
    p = p * t + F4(-0.60789659716)
    p = p * t + F4(0.75528513546)
    return d * p


def _normal4(x):
    a = abs(x)
    e = exp(F4(-0.5) * a * a)
    tail = e * _mills4(min(a, F4(14)))
    return (tail if x < F4(0) else F4(1) - tail), e * INV_SQRT_2PI4


def _normal8(x):
    a = abs(x)
    density = exp(-0.5 * a * a) * INV_SQRT_2PI8
    a = min(a, 39.0)
    d = 1.0 / (a + 6.0)
    t = (a - 6.0) * d
    p = 6.945668626473785e-10 * t + 4.7243141476772775e-09
    p = p * t + 7.170295734946037e-12
    p = p * t + -4.296363005483144e-08
    p = p * t + 9.927539968434082e-09
    p = p * t + 3.1028900999646297e-07
    p = p * t + -4.3121593483778937e-07
    p = p * t + -1.7996772179492117e-06
    p = p * t + 6.797130721695624e-06
    p = p * t + 1.0755848560541106e-06
    p = p * t + -6.475223463001704e-05
    p = p * t + 0.00018136042142294053
    p = p * t + 3.287006623961982e-05
    p = p * t + -0.0021316052108313823
    p = p * t + 0.01002982063458383
    p = p * t + -0.030985315507540467
    p = p * t + 0.07517191566939002
    p = p * t + -0.15268023206449538
    p = p * t + 0.26797424584163837
    p = p * t + -0.4139035857755904
    p = p * t + 0.5689688918147839
    p = p * t + -0.7010090295908655
    p = p * t + 0.7773517718933622
    tail = density * (SQRT_2PI8 * d) * p
    return (tail if x < 0.0 else 1.0 - tail), density


@overload(normal, jit_options=STRICT)
def _normal(x):
    return _normal4 if x == types.float32 else _normal8


def gelu(x: float) -> float:
    """x Phi(x). In float32 it is max(x, 0) - |x| 2^-q with q = -log2(Phi(-|x|)), which polynomials
    come near to: so the far tail keeps its digits, as in `normal`, without a division."""
    raise NotImplementedError("kernels only")


@register_jitable(**STRICT)
def _tail_near4(a):
    p = TAIL_NEAR4[0] * a + TAIL_NEAR4[1]
    p = p * a + TAIL_NEAR4[2]
    p = p * a + TAIL_NEAR4[3]
    p = p * a + TAIL_NEAR4[4]
    p = p * a + TAIL_NEAR4[5]
    p = p * a + TAIL_NEAR4[6]
    p = p * a + TAIL_NEAR4[7]
    p = p * a + TAIL_NEAR4[8]
    p = p * a + TAIL_NEAR4[9]
    return p * a + TAIL_NEAR4[10]


@register_jitable(**STRICT)
def _tail_far4(a):
    t = a - F4(9)
    p = TAIL_FAR4[0] * t + TAIL_FAR4[1]
    p = p * t + TAIL_FAR4[2]
    p = p * t + TAIL_FAR4[3]
    p = p * t + TAIL_FAR4[4]
    p = p * t + TAIL_FAR4[5]
    p = p * t + TAIL_FAR4[6]
    p = p * t + TAIL_FAR4[7]
    p = p * t + TAIL_FAR4[8]
    return p * t + TAIL_FAR4[9]


@register_jitable(**STRICT)
def _power4(a, b, c):
    """2^r - 1 of 2^-q = 2^n 2^r, q = ab + c, and the bits of ROUND_ONCE4 + n."""
    shifted = ROUND_ONCE4 - (a * b + c)
    n = shifted - ROUND_ONCE4
    r = (-n - a * b) - c
    p = POWER4[0] * r + POWER4[1]
    p = p * r + POWER4[2]
    p = p * r + POWER4[3]
    p = p * r + POWER4[4]
    p = p * r + POWER4[5]
    return p * r, F4(shifted).view(I4)


@register_jitable(**STRICT)
def small_gelu(x: float) -> float:
    """`gelu` of a float32 number from -6 to 6: the same bits, in half of the time."""
    a = abs(x)
    p, bits = _power4(a, _tail_near4(a), F4(1))
    scale = I4(bits << I4(23)).view(F4) * a
    return (F4(0) if x < F4(0) else x) - (p * scale + scale)


@register_jitable(**STRICT)
def _chosen4(first, a, b):
    """a where `first` has all bits, else b: never by a branch, which would leave no vectors."""
    return I4(I4(F4(a).view(I4) & first) | I4(F4(b).view(I4) & I4(~first))).view(F4)


def _gelu4(x):
    a = F4(min(abs(x), F4(14.5)))
    near, far = _tail_near4(a), _tail_far4(a)
    # a^2 with all its digits: that of the upper half of them, and what is left.
    upper = I4(a.view(I4) & UPPER4).view(F4)
    far = (a + upper) * (a - upper) * HALF_LOG2_E4 + far
    is_near = I4(-1) if a <= F4(6) else I4(0)
    p, bits = _power4(
        _chosen4(is_near, a, F4(upper * upper)),
        _chosen4(is_near, F4(near), HALF_LOG2_E4),
        _chosen4(is_near, F4(1), F4(far)),
    )
    # The power is 2^-126 or more, times a second one, which is 1 or leads to subnormal numbers.
    below = I4(min(I4(bits - ROUND_BITS_LEAST4), I4(0)))
    second = I4(I4(below + I4(127)) << I4(23)).view(F4)
    scale = I4(I4(bits - below) << I4(23)).view(F4) * a
    y = (F4(0) if x < F4(0) else x) - (p * scale + scale) * second
    y = I4(F4(y).view(I4) | I4(F4(x).view(I4) & SIGN4)).view(F4)
    return F4(np.nan) if x == F4(-np.inf) else y


@overload(gelu, jit_options={**STRICT, "forceinline": True})
def _gelu(x):
    return _gelu4 if x == types.float32 else lambda x: x * normal(x)[0]
