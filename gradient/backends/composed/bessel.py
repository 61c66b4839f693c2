"""Modified Bessel functions of the first kind, of integer order."""

from __future__ import annotations

import math

from gradient.backends.composed.elementwise import ElementwiseDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.required import Array

FAR = 18.0
"""From here on the asymptotic series is used; its least term there is below 1e-16."""
NEAR_TERMS, FAR_TERMS = 44, 32


class BesselDefaults(ElementwiseDefaults[Array]):
    """Methods of `Backend` of Bessel functions."""

    @in_float32
    def bessel_i(self, x: Array, order: int = 0) -> Array:
        """The modified Bessel function of the first kind, I_n(x)."""
        return self.exp(self.abs(x)) * self.bessel_ie(x, order)

    @in_float32
    def bessel_ie(self, x: Array, order: int = 0) -> Array:
        """exp(-|x|) I_n(x): by the power series, and Hankel's asymptotic one beyond `FAR`
        (Abramowitz and Stegun 1964, 9.6.10 and 9.7.1), each nested as in Horner's rule."""
        size = self.abs(x)
        half = self.minimum(size, self.full((), FAR, x.dtype)) / 2
        square, series = half * half, self.full((), 1, x.dtype)
        for k in range(NEAR_TERMS, 0, -1):
            series = 1 + series * (square / (k * (k + order)))
        near = self.exp(-2 * half) * series / math.factorial(order)
        for _ in range(order):
            near = near * half
        large = self.maximum(size, self.full((), FAR, x.dtype))
        inverse, series = 1 / (8 * large), self.full((), 1, x.dtype)
        for k in range(FAR_TERMS, 0, -1):
            series = 1 - series * (inverse * ((4 * order**2 - (2 * k - 1) ** 2) / k))
        value = self.where(size < FAR, near, series / self.sqrt(2 * math.pi * large))
        return self.where(x < 0, -value, value) if order % 2 else value
