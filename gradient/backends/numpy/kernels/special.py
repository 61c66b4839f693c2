"""Special functions over flat arrays of float32 or float64, for the elements start to stop.

But for two they are computed in float64, and rounded once. Some have a quicker way for common
numbers, for blocks without others.
"""

from __future__ import annotations

from gradient.backends.numpy.kernels import bessel_functions as bessel
from gradient.backends.numpy.kernels import error_functions as errors
from gradient.backends.numpy.kernels import gamma_functions as gamma
from gradient.backends.numpy.kernels.compilation import inlined, of_numbers, strict_kernel
from gradient.backends.numpy.kernels.logarithm import F8

_erf4, _erf8, _erfc, _erfcx = errors.erf4, errors.erf8, errors.erfc, errors.erfcx
_erfinv4, _erfinv8, _ndtri = errors.erfinv4, errors.erfinv8, errors.ndtri
_erfinv_inside, _ndtri_inside = errors.erfinv_inside, errors.ndtri_inside
_ndtr, _log_ndtr = errors.ndtr, errors.log_ndtr
_lgamma, _digamma, _trigamma = gamma.lgamma, gamma.digamma, gamma.trigamma
_lgamma_near = gamma.lgamma_near
_positive_digamma, _positive_trigamma = gamma.digamma_above_0, gamma.trigamma_above_0
_near_bessel, _near_scaled_bessel = bessel.near, bessel.near_scaled
_scaled_bessel, _bessel = bessel.scaled, bessel.whole
_is_inside, _is_probable, _is_near = errors.is_inside, errors.is_probable, gamma.is_near
_is_positive, _is_small = gamma.is_positive, bessel.is_small

BLOCK = 128
"""Elements that are looked at together."""


@inlined
def _in_blocks(start, stop, x, y, is_common, quick, full):
    """y = full(x); where all of a block are common numbers, quick(x)."""
    for first in range(start, stop, BLOCK):
        a, b = x[first : min(first + BLOCK, stop)], y[first : min(first + BLOCK, stop)]
        others = 0
        for i in range(a.size):
            others |= not is_common(F8(a[i]))
        if others:
            for i in range(a.size):
                b[i] = full(F8(a[i]))
        else:
            for i in range(a.size):
                b[i] = quick(F8(a[i]))


@strict_kernel
def erf4(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _erf4(x[i])


@strict_kernel
def erf8(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _erf8(x[i])


@strict_kernel
def erfc(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _erfc(F8(x[i]))


@strict_kernel
def erfcx(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _erfcx(F8(x[i]))


@strict_kernel
def erfinv4(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _erfinv4(x[i])


@strict_kernel
def ndtr(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _ndtr(F8(x[i]))


@strict_kernel
def log_ndtr(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = _log_ndtr(F8(x[i]))


@strict_kernel
def erfinv8(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_inside, _erfinv_inside, _erfinv8)


@strict_kernel
def ndtri(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_probable, _ndtri_inside, _ndtri)


@strict_kernel
def lgamma(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_near, _lgamma_near, _lgamma)


@strict_kernel
def digamma(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_positive, _positive_digamma, _digamma)


@strict_kernel
def trigamma(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_positive, _positive_trigamma, _trigamma)


@of_numbers
def _near_i0(x):
    return _near_bessel(x, 0)


@of_numbers
def _i0(x):
    return _bessel(x, 0)


@strict_kernel
def i0(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_small, _near_i0, _i0)


@of_numbers
def _near_i0e(x):
    return _near_scaled_bessel(x, 0)


@of_numbers
def _i0e(x):
    return _scaled_bessel(x, 0)


@strict_kernel
def i0e(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_small, _near_i0e, _i0e)


@of_numbers
def _near_i1(x):
    return _near_bessel(x, 1)


@of_numbers
def _i1(x):
    return _bessel(x, 1)


@strict_kernel
def i1(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_small, _near_i1, _i1)


@of_numbers
def _near_i1e(x):
    return _near_scaled_bessel(x, 1)


@of_numbers
def _i1e(x):
    return _scaled_bessel(x, 1)


@strict_kernel
def i1e(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_small, _near_i1e, _i1e)


@of_numbers
def _near_i2(x):
    return _near_bessel(x, 2)


@of_numbers
def _i2(x):
    return _bessel(x, 2)


@strict_kernel
def i2(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_small, _near_i2, _i2)


@of_numbers
def _near_i2e(x):
    return _near_scaled_bessel(x, 2)


@of_numbers
def _i2e(x):
    return _scaled_bessel(x, 2)


@strict_kernel
def i2e(start, stop, x, y):
    _in_blocks(start, stop, x, y, _is_small, _near_i2e, _i2e)
