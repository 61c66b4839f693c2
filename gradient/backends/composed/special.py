"""Special functions: log-gamma and its derivatives; the Hurwitz zeta function; the regularised
incomplete gamma functions P(a, x) and Q(a, x) = 1 - P(a, x); the normal distribution function, its
logarithm and inverse; the scaled error function; modified Bessel functions of the first kind, of
integer order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed.elementwise import (
    SQRT_HALF,
    ElementwiseDefaults,
    erf_below_one,
    polynomial,
    scaled_complement,
)
from gradient.backends.composed.precision import in_float32
from gradient.backends.required import Array

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510,
             43867 / 798, -174611 / 330)  # fmt: skip
"""B_2, B_4, ..."""
EULER = 0.57721566490153286
"""The Euler-Mascheroni constant."""


def euler_maclaurin(s: Any, q: Any) -> Any:
    """zeta(s, q) for q > 0: ten terms of the sum, and the Euler-Maclaurin formula for the rest
    (NIST Digital Library of Mathematical Functions, 25.11.5)."""
    y = q + len(BERNOULLI)
    power = y**-s
    total = y ** (1 - s) / (s - 1) + 0.5 * power
    term = power * (s / y)
    for k, b in enumerate(BERNOULLI, 1):
        total = total + term * (b / math.factorial(2 * k))
        term = term * ((s + (2 * k - 1)) / y) * ((s + 2 * k) / y)
    for k in range(len(BERNOULLI) - 1, -1, -1):
        total = total + (q + k) ** -s
    return total


LOG_GAMMA_AT_2 = (1 - EULER, *((-1) ** k * euler_maclaurin(k, 2.0) / k for k in range(2, 28)))
"""Coefficients of log Gamma(2 + z) / z, lowest power first (Abramowitz and Stegun 1964, 6.1.33)."""
STIRLING = tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI[:9], 1))
"""Of log Gamma(y), over y, y^3, ... (6.1.40 there)."""
STIRLING_SLOPE = tuple(b / (2 * k) for k, b in enumerate(BERNOULLI[:9], 1))
"""Of digamma(y), over y^2, y^4, ... (6.3.18 there)."""
LARGE = 1e30
"""An exponent of `zeta` at which all powers but those of 1 are 0 or infinite."""
SHIFT = 9
"""Stirling's series is used from here on: its terms are below 1e-16."""


HUGE = 1e7
"""An a from which on Temme's expansion is used, whose next term is below 1e-12 there."""
TINY, EPS = 1e-300, 2.0**-54


class GammaDefaults(ElementwiseDefaults[Array]):
    """Methods of `Backend` for the gamma function."""

    @in_float32
    def lgamma(self, x: Array) -> Array:
        """log |Gamma(x)|. For large |x| by Stirling's series; else by the Taylor series at 2 and
        Gamma(x + 1) = x Gamma(x), which is accurate near the zeros 1 and 2; below 0 by reflection,
        Gamma(x) Gamma(-x) = -pi / (x sin(pi x))."""
        size = self.abs(x)
        positive = self.where(size < SHIFT, self._lgamma_near(size), self._lgamma_far(size))
        from_integer = size - self.round(size)
        sine = self.abs(self.sin(math.pi * from_integer))
        negative = math.log(math.pi) - self.log(sine) - self.log(size) - positive
        pole = (from_integer == 0) | (size == math.inf)
        negative = self.where(pole, self.full((), math.inf, x.dtype), negative)
        return self.where(x < 0, negative, positive)

    def _lgamma_near(self, x: Array) -> Array:
        z = self.minimum(x, self.full((), SHIFT, x.dtype))
        one = self.full((), 1, x.dtype)
        product = one
        for _ in range(SHIFT - 2):
            above = z > 2.5
            z = self.where(above, z - 1, z)
            product = self.where(above, product * z, product)
        small = self.where(z < 0.5, z, one * 0)
        t = self.where(z < 0.5, z, self.where(z < 1.5, z - 1, z - 2))
        value = t * polynomial(LOG_GAMMA_AT_2, t) + self.log(product)
        return value - self.log(self.where(z < 1.5, z, one)) - self.log1p(small)

    def _lgamma_far(self, x: Array) -> Array:
        y = self.maximum(x, self.full((), SHIFT, x.dtype))
        inverse = 1 / y
        rest = 0.5 * math.log(2 * math.pi) - 0.5 + inverse * polynomial(STIRLING, inverse * inverse)
        return (y - 0.5) * (self.log(y) - 1) + rest

    @in_float32
    def digamma(self, x: Array) -> Array:
        """The derivative of `lgamma`, by its asymptotic series at x + `SHIFT`; below 0 by
        reflection, digamma(1 - x) - digamma(x) = pi / tan(pi x). NaN at -1, -2, ..., where the sign
        of the pole depends on the side."""
        above = self.where(x < 0, 1 - x, x)
        y = above + SHIFT
        inverse = 1 / y
        square = inverse * inverse
        value = self.log(y) - 0.5 * inverse - square * polynomial(STIRLING_SLOPE, square)
        for k in range(SHIFT - 1, 0, -1):
            value = value - 1 / (above + k)
        value = value - 1 / above
        cotangent = 1 / self.tan(math.pi * (x - self.round(x)))
        pole = (x < 0) & (self.round(x) == x)
        negative = self.where(pole, x * math.nan, value - math.pi * cotangent)
        return self.where(x < 0, negative, value)

    @in_float32
    def polygamma(self, x: Array, n: int) -> Array:
        """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x)."""
        if n == 0:
            return self.digamma(x)
        factorial = math.factorial(n) if n <= 170 else math.inf
        return (-1) ** (n + 1) * factorial * self.zeta(self.full((), n + 1, x.dtype), x)

    @in_float32
    def zeta(self, s: Array, q: Array) -> Array:
        """The Hurwitz zeta function, the sum of (q + k)^-s over k = 0, 1, ...; inf if s = 1 or a
        term is infinite; NaN if s < 1, or if q < 0 and s is not an integer.

        For a negative q = f - m, the terms are those of the positive f, and (-1)^s (h + k)^-s for
        k < m, where h = 1 - f: the sum from h on minus the sum from h + m = 1 - q on."""
        zero, one = self.full((), 0, q.dtype), self.full((), 1, q.dtype)
        s = self.minimum(s, self.full((), LARGE, q.dtype))
        low, high = q - self.floor(q), self.ceil(q) - q
        split = (q < 0) & (low > 0)
        first = euler_maclaurin(s, self.where(q <= 0, self.where(split, low, one), q))
        below = euler_maclaurin(s, self.where(split, high, one))
        below = below - euler_maclaurin(s, self.where(split, one - q, one))
        below = self.where(s / 2 == self.floor(s / 2), below, zero - below)
        value = self.where(split, first + below, first)
        undefined = (s < 1) | (split & (s != self.floor(s)))
        value = self.where(undefined, q * math.nan, value)
        pole = (s == 1) | ((q <= 0) & ~split & ~(s < 1))
        return self.where(pole, one * math.inf, value)

    @in_float32
    def gammainc(self, a: Array, x: Array) -> Array:
        """P(a, x), the integral of t^(a-1) exp(-t) from 0 to x, divided by Gamma(a)."""
        return self._incomplete(a, x, 0)

    @in_float32
    def gammaincc(self, a: Array, x: Array) -> Array:
        """Q(a, x), the integral of t^(a-1) exp(-t) from x on, divided by Gamma(a)."""
        return self._incomplete(a, x, 1)

    def _incomplete(self, a: Array, x: Array, which: int) -> Array:
        values = np.broadcast_arrays(*(np.asarray(self.to_numpy(v), np.float64) for v in (a, x)))
        found = [pair[which] for pair in map(_pair, *(v.ravel().tolist() for v in values))]
        result = np.array(found, np.float64).reshape(values[0].shape)
        return self.asarray(result.astype(x.dtype))


# P and Q of single numbers, on the host, as the number of terms depends on the numbers.


def _pair(a: float, x: float) -> tuple[float, float]:
    """P and Q of two numbers."""
    if not (a >= 0 and x >= 0) or (a == x and (a == 0 or math.isinf(a))):
        return math.nan, math.nan
    if a == 0 or math.isinf(x):
        return 1.0, 0.0
    if x == 0 or math.isinf(a):
        return 0.0, 1.0
    if a > HUGE:
        return _temme(a, x)
    power = _power(a, x)
    if x >= max(a + 1, 1.1):
        q = power * a * _fraction(a, x)
        return 1 - q, q
    p = min(power * _series(a, x), 1.0)
    if x < 1.1 and p > 0.5:
        # 1 - p would lose digits: 1 - x^a / Gamma(a + 1) minus the rest of another series.
        whole = a * math.log(x) - _log_gamma(a)
        return p, -math.expm1(whole) - math.exp(whole) * a * _alternating(a, x)
    return p, 1 - p


def _log_gamma(a: float) -> float:
    """log Gamma(a + 1), accurate also for small a."""
    if a >= 0.5:
        return math.lgamma(a + 1)
    return math.fsum(c * a ** (k + 1) for k, c in enumerate(LOG_GAMMA_AT_2)) - math.log1p(a)


def _power(a: float, x: float) -> float:
    """x^a exp(-x) / Gamma(a + 1); for large a by Stirling's series, as logarithms would cancel."""
    if a < 20:
        return math.exp(a * math.log(x) - x - _log_gamma(a))
    correction = sum(c * a ** -(2 * k + 1) for k, c in enumerate(STIRLING))
    return math.exp(-a * _half_square(a, x) - correction) / math.sqrt(2 * math.pi * a)


def _half_square(a: float, x: float) -> float:
    """m - log(1 + m), where m = (x - a) / a."""
    m = (x - a) / a
    if abs(m) > 0.1:
        return m - math.log(x / a)
    return math.fsum((-m) ** k / k for k in range(2, 18))


def _series(a: float, x: float) -> float:
    """1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ... (DLMF 8.11.4)"""
    total = term = 1.0
    n = a
    while term > total * EPS:
        n += 1
        term *= x / n
        total += term
    return total


def _alternating(a: float, x: float) -> float:
    """The sum of (-x)^n / (n! (a + n)) over n = 1, 2, ... (DLMF 8.7.1)"""
    power, terms = 1.0, []
    for n in range(1, 30):
        power *= -x / n
        terms.append(power / (a + n))
    return math.fsum(terms)


def _fraction(a: float, x: float) -> float:
    """The continued fraction 1 / (x + 1 - a - (1 - a) / (x + 3 - a - ...)) (DLMF 8.9.2), evaluated
    forwards (Lentz 1976)."""
    b = x + 1 - a
    c, d = 1 / TINY, 1 / b
    value, change, n = d, 0.0, 0
    while abs(change - 1) > 4 * EPS:
        n += 1
        factor = -n * (n - a)
        b += 2
        d = 1 / (factor * d + b or TINY)
        c = b + factor / c or TINY
        change = c * d
        value *= change
    return value


def _temme(a: float, x: float) -> tuple[float, float]:
    """The first terms of Temme's uniform expansion (DLMF 8.12.3 and 8.12.7)."""
    m = (x - a) / a
    eta = math.copysign(math.sqrt(2 * _half_square(a, x)), m)
    if abs(eta) < 0.01:
        slope = -1 / 3 + eta / 12 - 2 * eta**2 / 135 + eta**3 / 864
    else:
        slope = 1 / m - 1 / eta
    rest = math.exp(-0.5 * a * eta**2) / math.sqrt(2 * math.pi * a) * slope
    t = eta * math.sqrt(a / 2)
    return 0.5 * math.erfc(-t) - rest, 0.5 * math.erfc(t) + rest


TAIL = 0.02
"""The probability below which `ndtri` works with logarithms."""


class NormalDefaults(ElementwiseDefaults[Array]):
    """Methods of `Backend` for the normal distribution."""

    @in_float32
    def erfcx(self, x: Array) -> Array:
        """exp(x^2) erfc(x), which does not underflow for large x."""
        size = self.abs(x)
        small = self.minimum(size, self.full((), 1, x.dtype))
        near = self.exp(small * small) * (1 - erf_below_one(self, small))
        tail = scaled_complement(self, self.maximum(size, self.full((), 1, x.dtype)))
        above = self.where(size < 1, near, tail)
        # exp(x^2), with an exact square of the first bits of x, as in `erfc`.
        most = self.minimum(size, self.full((), 28, x.dtype))  # from there on it is infinite
        high = self.floor(most * 16) / 16
        growth = self.exp(high * high) * self.exp((most - high) * (most + high))
        return self.where(x < 0, 2 * growth - above, above)

    @in_float32
    def ndtr(self, x: Array) -> Array:
        """The probability that a standard normal number is at most x."""
        return 0.5 * self.erfc(-SQRT_HALF * x)

    @in_float32
    def log_ndtr(self, x: Array) -> Array:
        """log(ndtr(x)); in the lower tail by `erfcx`, as ndtr(x) underflows."""
        low = self.minimum(x, self.full((), -1, x.dtype))
        tail = self.log(0.5 * self.erfcx(-SQRT_HALF * low)) - 0.5 * low * low
        high = self.maximum(x, self.full((), -1, x.dtype))
        return self.where(x < -1, tail, self.log1p(-0.5 * self.erfc(SQRT_HALF * high)))

    @in_float32
    def ndtri(self, x: Array) -> Array:
        """The inverse of ndtr: -inf at 0, inf at 1, NaN outside. By erfinv, and in the tails by
        Newton's method on log_ndtr(y) = log(x), as log_ndtr is concave and nearly a parabola."""
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


FAR = 18.0
"""From here on the asymptotic series is used; its least term there is below 1e-16."""
NEAR_TERMS, FAR_TERMS = 44, 32
ROOT_OF_2_PI = math.sqrt(2 * math.pi)  # not within a root: 2 pi times the largest float32 is inf


class BesselDefaults(ElementwiseDefaults[Array]):
    """Methods of `Backend` for Bessel functions."""

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
        value = self.where(size < FAR, near, series / (self.sqrt(large) * ROOT_OF_2_PI))
        return self.where(x < 0, -value, value) if order % 2 else value
