"""The normal distribution function, its logarithm and inverse, and the scaled error function."""

from __future__ import annotations

import math

from gradient.backends.composed.elementwise import (
    SQRT_HALF,
    ElementwiseDefaults,
    erf_below_one,
    scaled_complement,
)
from gradient.backends.composed.precision import in_float32
from gradient.backends.required import Array

TAIL = 0.02
"""The probability below which `ndtri` works with logarithms."""


class NormalDefaults(ElementwiseDefaults[Array]):
    """Methods of `Backend` of the normal distribution."""

    @in_float32
    def erfcx(self, x: Array) -> Array:
        """exp(x^2) erfc(x), which does not vanish where x is large."""
        size = self.abs(x)
        small = self.minimum(size, self.full((), 1, x.dtype))
        near = self.exp(small * small) * (1 - erf_below_one(self, small))
        tail = scaled_complement(self, self.maximum(size, self.full((), 1, x.dtype)))
        above = self.where(size < 1, near, tail)
        # exp(x^2) by an exact square of the first bits of x, as in `erfc`.
        most = self.minimum(size, self.full((), 28, x.dtype))  # where it has long been infinite
        high = self.floor(most * 16) / 16
        growth = self.exp(high * high) * self.exp((most - high) * (most + high))
        return self.where(x < 0, 2 * growth - above, above)

    @in_float32
    def ndtr(self, x: Array) -> Array:
        """The probability that a standard normal number is at most x."""
        return 0.5 * self.erfc(-SQRT_HALF * x)

    @in_float32
    def log_ndtr(self, x: Array) -> Array:
        """log(ndtr(x)); in the lower tail by `erfcx`, as ndtr(x) vanishes."""
        low = self.minimum(x, self.full((), -1, x.dtype))
        tail = self.log(0.5 * self.erfcx(-SQRT_HALF * low)) - 0.5 * low * low
        high = self.maximum(x, self.full((), -1, x.dtype))
        return self.where(x < -1, tail, self.log1p(-0.5 * self.erfc(SQRT_HALF * high)))

    @in_float32
    def ndtri(self, x: Array) -> Array:
        """The inverse of ndtr: -inf at 0, inf at 1, NaN beyond. By erfinv, and in the tails by
        Newton's method on log_ndtr(y) = log(x), which is concave and nearly a parabola."""
        nearer = self.minimum(x, 1 - x)
        in_tail = (nearer > 0) & (nearer < TAIL)
        log = self.log(self.where(in_tail, nearer, self.full((), TAIL, x.dtype)))
        t = self.sqrt(-2 * log)
        y = (self.log(t) + 0.5 * math.log(2 * math.pi)) / t - t
        for _ in range(4):
            inverse_slope = self.erfcx(-SQRT_HALF * y) * math.sqrt(math.pi / 2)
            y = y - (self.log_ndtr(y) - log) * inverse_slope
        middle = self.erfinv(2 * x - 1) * math.sqrt(2)
        value = self.where(in_tail, self.where(x < 0.5, y, -y), middle)
        return self.where(x < 0, x * math.nan, value)  # 2 x - 1 is -1 where x is tiny
