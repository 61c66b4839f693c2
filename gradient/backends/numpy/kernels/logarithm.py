"""The logarithm of numbers, without branches or library calls."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from gradient.backends.numpy.kernels.arithmetic import choose, polynomial
from gradient.backends.numpy.kernels.compilation import STRICT
from gradient.backends.numpy.kernels.functions import F4, I4

# Of (log(1 + f) - f + f^2 / 2) / f^3 in f, and of (log((1 + s) / (1 - s)) - 2s) / s^3 in s^2.
LOG4 = (
    0.069177133404, -0.11790972774, 0.11872416611, -0.12384085611, 0.14218716692, -0.16669270735,
    0.20002223331, -0.24999986104, 0.33333310514,
)  # fmt: skip
LOG8 = (
    0.1308702514822905, 0.132687321437391, 0.1538624135659661, 0.18181795607068982,
    0.22222222392053148, 0.28571428570801954, 0.4000000000000088, 0.6666666666666666,
)  # fmt: skip

_series4, _series8 = polynomial(LOG4), polynomial(LOG8)
F8 = np.float64
LOG_2_HIGH4, LOG_2_LOW4 = F4(0.693359375), F4(-2.12194440054690583e-4)
LOG_2_HIGH8, LOG_2_LOW8 = 0.6931471803691238, 1.9082149292705877e-10
# The bits of sqrt(1/2): exponents are counted so that mantissas go from there to sqrt(2).
ROOT4, ROOT8 = I4(0x3F3504F3), 0x3FE6A09E667F3BCD
EXPONENT_BITS4, EXPONENT_BITS8 = I4(-(1 << 23)), -(1 << 52)
LEAST4, LEAST8 = F4(2.0**-126), 2.0**-1022  # that are normal


def log(x: float) -> float:
    """log(x) within 1 ulp: -inf at 0, NaN below. With x = 2^k (1 + f) it is k log(2) + log(1 + f),
    whose first part has so few bits that it is exact; log(1 + f) is f - f^2 / 2 + f^3 P(f), or in
    float64 f - s (f - s^2 P(s^2)) with s = f / (2 + f)."""
    raise NotImplementedError("kernels only")


def _log4(x):
    is_small = x < LEAST4
    y = choose(is_small, x * F4(2.0**25), x)
    bits = F4(y).view(I4)
    exponent = I4(I4(bits - ROOT4) & EXPONENT_BITS4)
    k = F4(I4(exponent >> I4(23))) - choose(is_small, F4(25), F4(0))
    f = I4(bits - exponent).view(F4) - F4(1)
    q = f * f
    log = k * LOG_2_HIGH4 - ((F4(0.5) * q - (f * q * _series4(f) + k * LOG_2_LOW4)) - f)
    log = choose(x < F4(np.inf), log, x)  # NaN too
    log = choose(x < F4(0), F4(np.nan), log)
    return choose(x == F4(0), F4(-np.inf), log)


def _log8(x):
    is_small = x < LEAST8
    y = choose(is_small, x * 2.0**54, x)
    bits = F8(y).view(np.int64)
    exponent = (bits - ROOT8) & EXPONENT_BITS8
    k = F8(exponent >> 52) - choose(is_small, 54.0, 0.0)
    f = np.int64(bits - exponent).view(F8) - 1.0
    s = f / (2.0 + f)
    q = s * s
    half = 0.5 * f * f
    log = k * LOG_2_HIGH8 - ((half - (s * (half + q * _series8(q)) + k * LOG_2_LOW8)) - f)
    log = choose(x < np.inf, log, x)  # NaN too
    log = choose(x < 0.0, np.nan, log)
    return choose(x == 0.0, -np.inf, log)


@overload(log, jit_options={**STRICT, "forceinline": True})
def _log(x):
    return _log4 if x == types.float32 else _log8
