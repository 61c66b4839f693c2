"""Elementwise functions composed of the required ones, and the activations with their gradients."""

from __future__ import annotations

import math
from typing import Any

from gradient.backends.composed.precision import composed
from gradient.dtypes import DType

SQRT_HALF = math.sqrt(0.5)
GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715


class ElementwiseDefaults:
    """Methods of `Backend` on one element at a time."""

    # Numbers -------------------------------------------------------------------------------------

    def isnan(be: Any, x: Any) -> Any:
        return x != x

    def isfinite(be: Any, x: Any) -> Any:
        return be.abs(x) < float("inf")

    def sign(be: Any, x: Any) -> Any:
        one = be.full((), 1, x.dtype)
        return be.where(x > 0, one, be.where(x < 0, -one, x * 0))

    def ceil(be: Any, x: Any) -> Any:
        return -be.floor(-x)

    def trunc(be: Any, x: Any) -> Any:
        return be.where(x < 0, be.ceil(x), be.floor(x))

    def round(be: Any, x: Any) -> Any:
        """To the nearest integer, halves to even."""
        low = be.floor(x)
        gap = x - low
        odd = be.floor(low / 2) * 2 != low
        return be.where((gap > 0.5) | ((gap == 0.5) & odd), low + 1, low)

    # Exponentials and logarithms -----------------------------------------------------------------

    @composed
    def expm1(be: Any, x: Any) -> Any:
        """exp(x) - 1 without cancellation near zero (Kahan's correction; Higham, Accuracy and
        Stability, section 1.14.1)."""
        u = be.exp(x)
        inside = (u != 1) & (u > 0) & (u < float("inf"))
        safe = be.where(inside, u, be.full((), 2, x.dtype))
        return be.where(inside, (safe - 1) * (x / be.log(safe)), be.where(u == 1, x, u - 1))

    @composed
    def log1p(be: Any, x: Any) -> Any:
        """log(1 + x) without loss near zero (same source as `expm1`)."""
        u = 1 + x
        inside = (u != 1) & (u < float("inf"))
        safe = be.where(inside, u, be.full((), 2, x.dtype))
        return be.where(inside, be.log(safe) * (x / (safe - 1)), be.where(u == 1, x, u))

    @composed
    def exp2(be: Any, x: Any) -> Any:
        return be.exp(x * math.log(2))

    @composed
    def log2(be: Any, x: Any) -> Any:
        return be.log(x) / math.log(2)

    @composed
    def log10(be: Any, x: Any) -> Any:
        return be.log(x) / math.log(10)

    @composed
    def logaddexp(be: Any, a: Any, b: Any) -> Any:
        high, gap = be.maximum(a, b), be.abs(a - b)
        return be.where(a == b, a + math.log(2), high + be.log1p(be.exp(-gap)))

    # Trigonometric and hyperbolic ----------------------------------------------------------------

    @composed
    def tan(be: Any, x: Any) -> Any:
        return be.sin(x) / be.cos(x)

    @composed
    def arctan(be: Any, x: Any) -> Any:
        return be.arctan2(x, be.full((), 1, x.dtype))

    @composed
    def arcsin(be: Any, x: Any) -> Any:
        return be.arctan2(x, be.sqrt((1 - x) * (1 + x)))

    @composed
    def arccos(be: Any, x: Any) -> Any:
        return be.arctan2(be.sqrt((1 - x) * (1 + x)), x)

    @composed
    def sinh(be: Any, x: Any) -> Any:
        """(e - 1/e) / 2 with e = exp(x), from expm1 so that small x keeps its digits."""
        u = be.expm1(be.abs(x))
        magnitude = be.where(u < float("inf"), (u + u / (u + 1)) / 2, u)
        return be.where(x < 0, -magnitude, magnitude)

    @composed
    def cosh(be: Any, x: Any) -> Any:
        e = be.exp(be.abs(x))
        return (e + 1 / e) / 2

    @composed
    def arcsinh(be: Any, x: Any) -> Any:
        a = be.abs(x)
        magnitude = be.log1p(a + a * a / (1 + be.sqrt(a * a + 1)))
        return be.where(x < 0, -magnitude, magnitude)

    @composed
    def arccosh(be: Any, x: Any) -> Any:
        return be.log(x + be.sqrt((x - 1) * (x + 1)))

    @composed
    def arctanh(be: Any, x: Any) -> Any:
        return be.log1p(2 * x / (1 - x)) / 2

    @composed
    def erf(be: Any, x: Any) -> Any:
        """The error function to about 1e-15: its Maclaurin-like series near zero and Lentz's
        continued fraction of erfc beyond (Abramowitz and Stegun, 7.1.6 and 7.1.14)."""
        a = be.minimum(be.abs(x), be.full((), 6, x.dtype))
        small = be.minimum(a, be.full((), 3, x.dtype))
        term = small
        series = term
        for n in range(1, 60):
            term = term * (2 * small * small) / (2 * n + 1)
            series = series + term
        series = series * be.exp(-small * small) * (2 / math.sqrt(math.pi))
        large = be.maximum(a, be.full((), 2, x.dtype))
        fraction = large
        for n in range(60, 0, -1):
            fraction = large + (n / 2) / fraction
        tail = 1 - be.exp(-large * large) / (fraction * math.sqrt(math.pi))
        magnitude = be.where(a < 2.5, series, tail)
        return be.where(x < 0, -magnitude, be.where(x != x, x, magnitude))

    # Activations ---------------------------------------------------------------------------------

    @composed
    def sigmoid(be: Any, x: Any) -> Any:
        """1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow."""
        e = be.exp(-be.abs(x))
        return be.where(x < 0, e, e * 0 + 1) / (1 + e)

    def relu(be: Any, x: Any) -> Any:
        return be.maximum(x, be.full((), 0, x.dtype))

    @composed
    def softplus(be: Any, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        """log(1 + exp(beta x)) / beta; the identity where beta x > threshold."""
        z = beta * x
        low = be.minimum(z, be.full((), threshold, x.dtype))
        return be.where(z > threshold, x, be.log1p(be.exp(low)) / beta)

    @composed
    def silu(be: Any, x: Any) -> Any:
        """x sigmoid(x) (Hendrycks and Gimpel 2016; Elfwing et al. 2017)."""
        return x * be.sigmoid(x)

    @composed
    def silu_grad(be: Any, g: Any, x: Any) -> Any:
        s = be.sigmoid(x)
        return g * (s * (1 + x * (1 - s)))

    @composed
    def gelu(be: Any, x: Any, approximate: str = "none") -> Any:
        """x Phi(x), Phi the normal distribution function; "tanh" is the approximation that GPT-2
        was trained with (Hendrycks and Gimpel 2016, section 2)."""
        if approximate == "tanh":
            return 0.5 * x * (1 + be.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x)))
        return 0.5 * x * (1 + be.erf(x * SQRT_HALF))

    @composed
    def gelu_grad(be: Any, g: Any, x: Any, approximate: str = "none") -> Any:
        if approximate == "tanh":
            t = be.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))
            slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x)
            return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
        density = be.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return g * (0.5 * (1 + be.erf(x * SQRT_HALF)) + x * density)


def is_floating(dtype: Any) -> bool:
    """Whether a DType or np.dtype is one of the float dtypes."""
    if isinstance(dtype, DType):
        return dtype.is_floating_point
    return dtype.kind in "fV"
