"""Elementary functions over flat arrays of float32 or float64, for the elements start to stop.

Those that use `get` and `put` also take 16-bit floats, as `half_precision.stored`.
"""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy.kernels import arctangents, arithmetic
from gradient.backends.numpy.kernels import trigonometry as waves
from gradient.backends.numpy.kernels.arithmetic import choose, with_sign
from gradient.backends.numpy.kernels.blocks import BLOCK, repeated
from gradient.backends.numpy.kernels.compilation import inlined, strict_kernel
from gradient.backends.numpy.kernels.functions import LOG2_E8, exp
from gradient.backends.numpy.kernels.half_precision import get, put, real
from gradient.backends.numpy.kernels.logarithm import F8
from gradient.backends.numpy.kernels.logarithm import log as log_of

_floored, _truncated, _rounded = arithmetic.floored, arithmetic.truncated, arithmetic.rounded
_raised = arithmetic.raised
_is_moderate, _sine, _cosine = waves.is_moderate, waves.sine, waves.cosine
_tangent = waves.tangent
_angle, _arctangent, _power = arctangents.angle, arctangents.arctangent, arctangents.power
_arcsine, _arccosine = arctangents.arcsine, arctangents.arccosine

I8 = np.int64
LOG10_E8, LOG_2 = 0.4342944819032518, 0.6931471805599453
SMALL = 1e-4
"""Below it, two or three terms of a Taylor series give float32's precision."""


@strict_kernel
def exp_of(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = exp(x[i])


@strict_kernel
def log(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, log_of(get(x, i)))


@strict_kernel
def sqrt(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, math.sqrt(get(x, i)))


@strict_kernel
def floor(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, _floored(get(x, i)))


@strict_kernel
def ceil(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, _raised(get(x, i)))


@strict_kernel
def trunc(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, _truncated(get(x, i)))


@strict_kernel
def round(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, _rounded(get(x, i)))


@strict_kernel
def sign(start, stop, x, y):
    """-1, 0 or 1; 0 of NaN."""
    x, y = x[start:stop], y[start:stop]
    zero, one = real(x, 0), real(x, 1)
    for i in range(x.size):
        u = get(x, i)
        put(y, i, choose(u > zero, one, choose(u < zero, -one, zero)))


@strict_kernel
def magnitude(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, abs(get(x, i)))


@strict_kernel
def larger(start, stop, a, b, y):
    """NaN if either is NaN."""
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        u, v = get(a, i), get(b, i)
        put(y, i, choose((u > v) | (u != u), u, v))


@strict_kernel
def smaller(start, stop, a, b, y):
    """NaN if either is NaN."""
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        u, v = get(a, i), get(b, i)
        put(y, i, choose((u < v) | (u != u), u, v))


@inlined
def _waves(start, stop, x, y, quick, full):
    """Compute a function in float64: by the polynomial `quick`, or by `full`, the C library's, for
    numbers too large for it. A block that has such numbers is computed without vector instructions,
    with the same bits for all others."""
    for first in range(start, stop, BLOCK):
        a, b = x[first : min(first + BLOCK, stop)], y[first : min(first + BLOCK, stop)]
        others = 0
        for i in range(a.size):
            others |= not _is_moderate(get(a, i))
        if others:
            for i in range(a.size):
                u = F8(get(a, i))
                put(b, i, real(a, quick(u) if _is_moderate(u) else full(u)))
        else:
            for i in range(a.size):
                put(b, i, real(a, quick(F8(get(a, i)))))


@strict_kernel
def sin(start, stop, x, y):
    _waves(start, stop, x, y, _sine, np.sin)


@strict_kernel
def cos(start, stop, x, y):
    _waves(start, stop, x, y, _cosine, np.cos)


@strict_kernel
def tan(start, stop, x, y):
    _waves(start, stop, x, y, _tangent, np.tan)


# The following take float32 and 16-bit floats, and compute in float64, so that they round once.


@strict_kernel
def log2(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, real(x, log_of(F8(get(x, i))) * LOG2_E8))


@strict_kernel
def log10(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, real(x, log_of(F8(get(x, i))) * LOG10_E8))


@strict_kernel
def log1p(start, stop, x, y):
    """Small numbers by three terms of the Taylor series, as 1 + x would lose their digits."""
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        few = u * (1.0 - u * (0.5 - u * (1 / 3)))  # -0 too
        put(y, i, real(x, choose(abs(u) < SMALL, few, log_of(1.0 + u))))


@strict_kernel
def expm1(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        few = u * (1.0 + u * (0.5 + u * (1 / 6)))
        put(y, i, real(x, choose(abs(u) < SMALL, few, exp(u) - 1.0)))


@strict_kernel
def exp2(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, real(x, exp(F8(get(x, i)) * LOG_2)))


@strict_kernel
def sinh(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        few = u * (1.0 + u * u * (1 / 6))
        put(y, i, real(x, choose(abs(u) < SMALL, few, 0.5 * (exp(u) - exp(-u)))))


@strict_kernel
def cosh(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        put(y, i, real(x, 0.5 * (exp(u) + exp(-u))))


@strict_kernel
def arcsinh(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        size = abs(u)
        whole = with_sign(log_of(size + math.sqrt(size * size + 1.0)), u)
        put(y, i, real(x, choose(size < SMALL, u * (1.0 - u * u * (1 / 6)), whole)))


@strict_kernel
def arctanh(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        whole = 0.5 * log_of((1.0 + u) / (1.0 - u))
        put(y, i, real(x, choose(abs(u) < SMALL, u * (1.0 + u * u * (1 / 3)), whole)))


@strict_kernel
def arccosh(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        u = F8(get(x, i))
        whole = log_of(u + math.sqrt((u - 1.0) * (u + 1.0)))
        put(y, i, real(x, choose(u < 1.0, np.nan, whole)))


@strict_kernel
def arctan(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, real(x, _arctangent(F8(get(x, i)))))


@strict_kernel
def arcsin(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, real(x, _arcsine(F8(get(x, i)))))


@strict_kernel
def arccos(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        put(y, i, real(x, _arccosine(F8(get(x, i)))))


@strict_kernel
def arctan2(start, stop, a, b, y):
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        put(y, i, real(y, _angle(F8(get(a, i)), F8(get(b, i)))))


@strict_kernel
def power(start, stop, a, b, y):
    """a and b are of one size, or one of them is a number, of size 1."""
    all_a, all_b = repeated(a), repeated(b)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        u = a[first:last] if a.size > 1 else all_a[: last - first]
        v = b[first:last] if b.size > 1 else all_b[: last - first]
        z = y[first:last]
        for i in range(z.size):
            put(z, i, real(z, _power(F8(get(u, i)), F8(get(v, i)))))


@strict_kernel
def hypot(start, stop, a, b, y):
    """Without overflow; inf if one is infinite, even if the other is NaN."""
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        u, v = abs(F8(get(a, i))), abs(F8(get(b, i)))
        high = choose(u > v, u, v)
        # A power of two, which is exact.
        scale = choose(high > 2.0**500, 2.0**-600, choose(high < 2.0**-500, 2.0**600, 1.0))
        c, d = u * scale, v * scale
        size = math.sqrt(c * c + d * d) * (1.0 / scale)
        put(y, i, real(y, choose((u == np.inf) | (v == np.inf), np.inf, size)))


@strict_kernel
def copysign(start, stop, a, b, y):
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        put(y, i, with_sign(get(a, i), get(b, i)))


@strict_kernel
def nextafter(start, stop, a, b, y, a_bits, b_bits, y_bits):
    """Works on the bits, as integers: adding 1 to those of a float gives the next one from 0 on."""
    a, b, a_bits, b_bits = a[start:stop], b[start:stop], a_bits[start:stop], b_bits[start:stop]
    y_bits, zero = y_bits[start:stop], a.dtype.type(0)
    # The bits of the negative float next to 0.
    below = I8(-(2**31) + 1 if a.itemsize == 4 else -(2**63) + 1)
    for i in range(a.size):
        u, v = a[i], b[i]
        moved = I8(a_bits[i]) + choose((v > u) == (u > zero), I8(1), I8(-1))
        moved = choose(u == zero, choose(v > u, I8(1), below), moved)
        moved = choose((u == v) | (v != v), I8(b_bits[i]), moved)
        y_bits[i] = choose(u == u, moved, I8(a_bits[i]))
