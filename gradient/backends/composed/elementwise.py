"""Elementwise functions composed of the required ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed import complex_numbers
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shared import is_complex
from gradient.backends.packed import is_packed
from gradient.backends.required import Array, RequiredMethods

SQRT_HALF = math.sqrt(0.5)
LARGE = 1e9
"""Beyond it the inverse hyperbolic functions are log(2 x) to the last digit of float64."""
ERF_NEAR = (
    1.1283791670955126, -0.3761263890318352, 0.11283791670944182, -0.026866170643111094,
    0.005223977606115942, -0.0008548325929211819, 0.00012055293574251506, -1.4924712257386027e-05,
    1.6447131081921732e-06, -1.6206310389279204e-07, 1.3710967166546995e-08, -7.779445870324592e-10,
)  # fmt: skip
ERF_FAR = (
    1.074006907088342, -0.8833944531698198, 0.5902283571039355, -0.3104672619093586,
    0.11952776126534657, -0.026827234306172856, -0.0012124151243532134, 0.0030340587402781626,
    -0.000548340110279963, -0.0002767996635702064, 0.00010778581737201805, 3.092819789635266e-05,
    -1.766726360841953e-05, -6.872910256683657e-06,
)  # fmt: skip
"""Coefficients of P and Q in `erf`, lowest power first."""
ERFC_TAIL = (
    0.5641895835477551, -0.28209479177178104, 0.4231421863162883, -1.0578550285266346,
    3.7024102124451694, -16.651267946950586, 90.873905303932, -557.3515520043716,
    3213.5266484929575, -11578.382477765046,
)  # fmt: skip
"""Coefficients of R in `erfc`, lowest power first."""


def erf_below_one(be: RequiredMethods[Array], a: Array) -> Array:
    small = be.minimum(a, be.full((), 1, a.dtype))
    return small * polynomial(ERF_NEAR, small * small)


def _scaled_tail(large: Array) -> Array:
    """exp(x^2) (1 - erf(x)) from 1 to 6."""
    far = 1 / (large + 3)
    return far * polynomial(ERF_FAR, (large - 3) * far)


def scaled_complement(be: RequiredMethods[Array], large: Array) -> Array:
    """exp(x^2) (1 - erf(x)) from 1 on."""
    inverse = 1 / large
    series = inverse * polynomial(ERFC_TAIL, inverse * inverse)
    return be.where(large < 6, _scaled_tail(large), series)


class ElementwiseDefaults(RequiredMethods[Array]):
    """Methods of `Backend` on one element at a time."""

    # Numbers -------------------------------------------------------------------------------------

    def isnan(self, x: Array) -> Array:
        return x != x

    def isfinite(self, x: Array) -> Array:
        return x.isfinite() if is_packed(x) else self.abs(x) < float("inf")

    def sign(self, x: Array) -> Array:
        """-1, 0 or 1; 0 for NaN."""
        one, zero = self.full((), 1, x.dtype), self.full((), 0, x.dtype)
        return self.where(x > 0, one, self.where(x < 0, -one, zero))

    def ceil(self, x: Array) -> Array:
        return -self.floor(-x)

    def trunc(self, x: Array) -> Array:
        return self.where(x < 0, self.ceil(x), self.floor(x))

    def round(self, x: Array) -> Array:
        """Round to the nearest integer, halves to even."""
        low = self.floor(x)
        gap = x - low
        odd = self.floor(low / 2) * 2 != low
        return self.where((gap > 0.5) | ((gap == 0.5) & odd), low + 1, low)

    def fmod(self, a: Array, b: Array) -> Array:
        """The remainder with the sign of a."""
        number: Any = b
        size = self.abs(a) % (self.abs(b) if hasattr(b, "dtype") else abs(number))
        return self.where(a < 0, -size, size)

    def remainder(self, a: Array, b: Array) -> Array:
        """The remainder with the sign of b; a zero has the sign of a."""
        rest = a % b
        if rest.dtype.kind in "biu":
            return rest
        return self.where(rest == 0, rest * rest * a, rest)

    def floor_divide(self, a: Array, b: Array) -> Array:
        """The largest integer that is at most a / b; a = floor_divide * b + `remainder`."""
        return a // b

    def signbit(self, x: Array) -> Array:
        """Whether the sign bit of floating-point numbers is set, also for -0 and -NaN."""
        return self.bitcast(x, np.dtype(f"i{x.dtype.itemsize}")) < 0

    def copysign(self, a: Array, b: Array) -> Array:
        """a with the sign bit of b."""
        return self.where(self.signbit(a) != self.signbit(b), -a, a)

    def nextafter(self, a: Array, b: Array) -> Array:
        """The next number after a towards b: b if they are equal, NaN if either is NaN."""
        bits = np.dtype(f"i{a.dtype.itemsize}")
        away = self.astype((b > a) == (a > 0), bits) * 2 - 1  # +1 if the magnitude grows, else -1
        moved = self.bitcast(self.bitcast(a, bits) + away, a.dtype)
        least = self.bitcast(self.full(tuple(a.shape), 1, bits), a.dtype)
        moved = self.where(a == 0, self.where(b > a, least, -least), moved)
        moved = self.where(a == b, b, moved)
        return self.where((a == a) & (b == b), moved, self.full((), math.nan, a.dtype))

    @in_float32
    def hypot(self, a: Array, b: Array) -> Array:
        """sqrt(a^2 + b^2), from the ratio of the smaller to the larger, without overflow; inf if
        one is infinite, even if the other is NaN."""
        a, b = self.abs(a), self.abs(b)
        high, low, inf = self.maximum(a, b), self.minimum(a, b), self.full((), math.inf, a.dtype)
        safe = self.where((high > 0) & (high < inf), high, self.full((), 1, a.dtype))
        ratio = self.where(high < inf, low, high) / safe
        size = self.where(high == 0, high, high * self.sqrt(1 + ratio * ratio))
        return self.where((a == inf) | (b == inf), inf, size)

    @in_float32
    def lerp(self, x: Array, end: Array, weight: Array | complex) -> Array:
        """x + weight (end - x), computed from the nearer of x and end."""
        gap = end - x
        if isinstance(weight, (int, float, complex)):
            return x + gap * weight if abs(weight) < 0.5 else end - gap * (1 - weight)
        return self.where(self.abs(weight) < 0.5, x + gap * weight, end - gap * (1 - weight))

    @in_float32
    def addcmul(self, x: Array, a: Array, b: Array, value: complex = 1) -> Array:
        return x + (a * b if value == 1 else value * a * b)

    @in_float32
    def addcdiv(self, x: Array, a: Array, b: Array, value: complex = 1) -> Array:
        return x + (a / b if value == 1 else value * a / b)

    # Exponentials and logarithms -----------------------------------------------------------------

    @in_float32
    def expm1(self, x: Array) -> Array:
        """exp(x) - 1 without cancellation near zero (Kahan's correction; Higham, Accuracy and
        Stability, section 1.14.1)."""
        if is_complex(x):
            return complex_numbers.expm1(self, x)
        u = self.exp(x)
        inside = (u != 1) & (u > 0) & (u < float("inf"))
        safe = self.where(inside, u, self.full((), 2, x.dtype))
        return self.where(inside, (safe - 1) * (x / self.log(safe)), self.where(u == 1, x, u - 1))

    @in_float32
    def log1p(self, x: Array) -> Array:
        """log(1 + x) without loss near zero (same source as `expm1`)."""
        if is_complex(x):
            return complex_numbers.log1p(self, x)
        u = 1 + x
        inside = (u != 1) & (u < float("inf"))
        safe = self.where(inside, u, self.full((), 2, x.dtype))
        return self.where(inside, self.log(safe) * (x / (safe - 1)), self.where(u == 1, x, u))

    @in_float32
    def exp2(self, x: Array) -> Array:
        return self.exp(x * math.log(2))

    @in_float32
    def log2(self, x: Array) -> Array:
        return self.log(x) / math.log(2)

    @in_float32
    def log10(self, x: Array) -> Array:
        return self.log(x) / math.log(10)

    @in_float32
    def entr(self, x: Array) -> Array:
        """-x log(x), the entropy of a probability: 0 at 0, -inf for x < 0."""
        zero = self.full((), 0, x.dtype)
        positive = -x * self.log(self.where(x > 0, x, zero + 1))
        rest = self.where(x < 0, zero - math.inf, self.where(x == 0, zero, x))
        return self.where(x > 0, positive, rest)

    @in_float32
    def xlogy(self, x: Array, y: Array) -> Array:
        """x log(y); 0 where x is 0 and y is not NaN."""
        return self.where((x == 0) & (y == y), self.full((), 0, y.dtype), x * self.log(y))

    @in_float32
    def xlog1py(self, x: Array, y: Array) -> Array:
        """x log(1 + y); 0 where x is 0 and y is not NaN."""
        return self.where((x == 0) & (y == y), self.full((), 0, y.dtype), x * self.log1p(y))

    @in_float32
    def logaddexp(self, a: Array, b: Array) -> Array:
        if is_complex(a):
            return complex_numbers.logaddexp(self, a, b)
        high, gap = self.maximum(a, b), self.abs(a - b)
        return self.where(a == b, a + math.log(2), high + self.log1p(self.exp(-gap)))

    # Trigonometric and hyperbolic ----------------------------------------------------------------

    @in_float32
    def tan(self, x: Array) -> Array:
        return self.sin(x) / self.cos(x)

    @in_float32
    def arctan(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.arctan(self, x)
        return self.arctan2(x, self.full((), 1, x.dtype))

    @in_float32
    def arcsin(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.arcsin(self, x)
        return self.arctan2(x, self.sqrt((1 - x) * (1 + x)))

    @in_float32
    def arccos(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.arccos(self, x)
        return self.arctan2(self.sqrt((1 - x) * (1 + x)), x)

    @in_float32
    def sinh(self, x: Array) -> Array:
        """(e - 1/e) / 2 with e = exp(x); from expm1, which is accurate for small x."""
        if is_complex(x):
            return complex_numbers.sinh(self, x)
        u = self.expm1(self.abs(x))
        magnitude = self.where(u < float("inf"), (u + u / (u + 1)) / 2, u)
        return self.where(x < 0, -magnitude, self.where(x == 0, x, magnitude))

    @in_float32
    def cosh(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.cosh(self, x)
        e = self.exp(self.abs(x))
        return (e + 1 / e) / 2

    @in_float32
    def arcsinh(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.arcsinh(self, x)
        size = self.abs(x)
        a = self.minimum(size, self.full((), LARGE, x.dtype))  # so that its square is finite
        magnitude = self.log1p(a + a * a / (1 + self.sqrt(a * a + 1)))
        magnitude = self.where(size > LARGE, self.log(size) + math.log(2), magnitude)
        return self.where(x < 0, -magnitude, self.where(x == 0, x, magnitude))

    @in_float32
    def arccosh(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.arccosh(self, x)
        a = self.minimum(x, self.full((), LARGE, x.dtype))  # so that its square is finite
        y = self.log(a + self.sqrt(a - 1) * self.sqrt(a + 1))
        return self.where(x > LARGE, self.log(x) + math.log(2), y)

    @in_float32
    def arctanh(self, x: Array) -> Array:
        if is_complex(x):
            return complex_numbers.arctanh(self, x)
        return self.log1p(2 * x / (1 - x)) / 2

    @in_float32
    def erf(self, x: Array) -> Array:
        """The error function to 3e-16: x P(x^2) up to 1, and 1 - exp(-x^2) Q(t) / (x + 3) beyond,
        with t = (x - 3) / (x + 3). P and Q are minimax polynomials (by Remez exchange)."""
        a = self.minimum(self.abs(x), self.full((), 28, x.dtype))  # from there on erf is 1
        large = self.maximum(a, self.full((), 1, x.dtype))
        tail = self.exp(-large * large) * _scaled_tail(large)
        magnitude = self.where(a < 1, erf_below_one(self, a), 1 - tail)
        signed = self.where(x < 0, -magnitude, magnitude)
        return self.where(a > 0, signed, x)  # 0 keeps its sign, NaN stays

    @in_float32
    def erfc(self, x: Array) -> Array:
        """1 - erf(x). Above 1 the tail is computed directly, without cancellation; above 6 it is
        exp(-x^2) R(1 / x^2) / x, with R near minimax. x^2 is split so that the square of the first
        bits of x is exact: the rounding of a plain square would be amplified by exp."""
        a = self.minimum(self.abs(x), self.full((), 28, x.dtype))  # from there on the tail is 0
        series = erf_below_one(self, a)
        large = self.maximum(a, self.full((), 1, x.dtype))
        high = self.floor(large * 16) / 16
        scaled = scaled_complement(self, large)
        tail = self.exp(-high * high) * (self.exp((high - large) * (high + large)) * scaled)
        above = self.where(a < 1, 1 - series, tail)
        return self.where(
            x < 0, 1 + self.where(a < 1, series, 1 - tail), self.where(x != x, x, above)
        )

    @in_float32
    def erfinv(self, x: Array) -> Array:
        """The inverse of erf: inf at 1, NaN beyond. A guess within 2e-3 (Winitzki 2008, "A handy
        approximation for the error function and its inverse"), and three steps of Halley's method,
        by erfc where x is above 1/2, so that the tail keeps its digits."""
        a = self.abs(x)
        inside = self.where(a < 1, a, self.full((), 0, x.dtype))
        log = self.log1p(-inside * inside)
        half = 2 / (math.pi * 0.147) + log / 2
        y = self.sqrt(self.sqrt(half * half - log / 0.147) - half)
        for _ in range(3):
            missing = self.where(inside < 0.5, self.erf(y) - inside, (1 - inside) - self.erfc(y))
            step = missing * self.exp(y * y) * (math.sqrt(math.pi) / 2)
            y = y - step / (1 + y * step)
        edge = self.where(a == 1, a * math.inf, a * math.nan)
        y = self.where(a < 1, y, edge)
        return self.where(x < 0, -y, self.where(a == 0, x, y))

    def power(self, a: Array, b: Array) -> Array:
        """a ** b; unlike sqrt, the power 0.5 of -0 is 0, and of -inf is inf."""
        return a**b

    def reciprocal_power(self, a: Array, b: Array) -> Array:
        """a ** b of integers with negative exponents: 1 / a^-b, rounded towards zero."""
        base, exponent = self.full((), 0, a.dtype) + a, self.full((), 0, b.dtype) + b
        positive = base ** self.maximum(exponent, self.full((), 0, exponent.dtype))
        odd = exponent % 2 != 0
        sign = self.where(
            (base == -1) & odd, base, self.where(self.abs(base) == 1, base * base, base * 0)
        )
        return self.where(exponent < 0, sign, positive)


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """The polynomial's value at x, by Horner's rule; lowest power first."""
    value = coefficients[-1] * x + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        value = value * x + c
    return value
