"""e^x of complex numbers, each two neighbours in flat float32 arrays."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import inlined, strict_kernel
from gradient.backends.numpy.kernels.functions import F4, ROUND8, ROUND_BITS8, small_exp

LARGEST_REAL, LARGEST_IMAGINARY = F4(87), F4(65536)
"""Of the sizes of parts that the kernel takes: e^x is a normal number, and an angle has so few
quarters of a turn that they are subtracted exactly."""

QUARTERS = 0.6366197723675814
# pi / 2 in two parts: the first has so few bits that a product with a number of quarters is exact.
QUARTER_HIGH, QUARTER_LOW = 1.5707963267341256, 6.077100506506192e-11
# The coefficients of (sin(r) / r - 1) / r^2 and of (cos(r) - 1 + r^2 / 2) / r^4 in r^2, the lowest
# first, for r up to pi / 4: the interpolation at Chebyshev's nodes, with an error below 2e-11.
SINE = (-0.16666666663844049, 0.008333331870341349, -0.00019840084376422702, 2.724962008007533e-06)
COSINE = (
    0.041666666664311826,
    -0.0013888887668370663,
    2.480059840835012e-05,
    -2.730070403808665e-07,
)


@inlined
def _polynomial(factors, u):
    return factors[0] + u * (factors[1] + u * (factors[2] + u * factors[3]))


@strict_kernel
def exp_of_complex(start, stop, x, far, y):
    """far[0] becomes 1 if there is a number with a part that is too large, or not finite: its
    result is meaningless."""
    x, y = x[2 * start : 2 * stop], y[2 * start : 2 * stop]
    beyond = np.int64(0)
    for i in range(y.size // 2):
        real, imaginary = x[2 * i], x[2 * i + 1]
        inside = (abs(real) <= LARGEST_REAL) & (abs(imaginary) <= LARGEST_IMAGINARY)
        beyond |= np.int64(not inside)
        # In float64, so that both parts are right to the last bit of float32.
        angle = np.float64(imaginary)
        shifted = angle * QUARTERS + ROUND8
        n = shifted - ROUND8
        r = (angle - n * QUARTER_HIGH) - n * QUARTER_LOW
        u = r * r
        sine = r * (1.0 + u * _polynomial(SINE, u))  # -0.0 of -0.0
        cosine = 1.0 - 0.5 * u + u * u * _polynomial(COSINE, u)
        quarter = np.float64(shifted).view(np.int64) - ROUND_BITS8
        is_odd = (quarter & 1) != 0
        across, up = sine if is_odd else cosine, cosine if is_odd else sine
        size = np.float64(small_exp(real))
        y[2 * i] = F4(size * (-across if ((quarter + 1) & 2) != 0 else across))
        y[2 * i + 1] = F4(size * (-up if (quarter & 2) != 0 else up))
    if beyond != 0:
        far[0] = 1
