"""Activations and their gradients, composed of elementwise functions."""

from __future__ import annotations

import math
from typing import Any

from gradient.backends.composed import complex_numbers
from gradient.backends.composed.elementwise import SQRT_HALF, ElementwiseDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shared import at_least, at_most, is_complex, sliced
from gradient.backends.required import Array

GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715


class ActivationDefaults(ElementwiseDefaults[Array]):
    """Methods of `Backend` for activations."""

    @in_float32
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), computed from exp(-|x|), which cannot overflow."""
        if is_complex(x):
            return complex_numbers.sigmoid(self, x)
        e = self.exp(-self.abs(x))
        return self.where(x < 0, e, e * 0 + 1) / (1 + e)

    @in_float32
    def sigmoid_grad(self, g: Array, out: Array) -> Array:
        """The gradient of sigmoid for x, from its output."""
        return g * (out * (1 - out))

    @in_float32
    def logsigmoid(self, x: Array) -> Array:
        """log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|))."""
        low = self.minimum(x, self.full((), 0, x.dtype))
        return low - self.log1p(self.exp(-self.abs(x)))

    @in_float32
    def logsigmoid_grad(self, g: Array, x: Array) -> Array:
        return g * self.sigmoid(-x)

    def relu(self, x: Array) -> Array:
        """0 where x < 0, else x: NaN and -0 are kept."""
        return self.where(x < 0, self.full((), 0, x.dtype), x)

    def relu_grad(self, g: Array, out: Array) -> Array:
        """g where relu's output is above 0 or NaN, else 0."""
        return self.where(out <= 0, self.full((), 0, g.dtype), g)

    def hardtanh(self, x: Array, low: float, high: float) -> Array:
        """x clamped to `low` and `high`."""
        return at_most(self, at_least(self, x, low), high)

    def hardtanh_grad(self, g: Array, x: Array, low: float, high: float) -> Array:
        """g where x is strictly between `low` and `high`, or NaN; else 0."""
        return self.where((x <= low) | (x >= high), self.full((), 0, g.dtype), g)

    def clamp(self, x: Array, low: float | None, high: float | None) -> Array:
        """x clamped to `low` and `high`; if low > high, `high`."""
        if low is not None:
            x = at_least(self, x, low)
        return x if high is None else at_most(self, x, high)

    def clamp_grad(self, g: Array, x: Array, low: float | None, high: float | None) -> Array:
        """g where x is between `low` and `high` or one of them, else 0. (A product with 0 would be
        NaN if g is infinite.)"""
        if low is None:
            inside = x <= high
        else:
            inside = x >= low if high is None else (x >= low) & (x <= high)
        return self.where(inside, g, self.full((), 0, g.dtype))

    @in_float32
    def hardshrink(self, x: Array, low: float, high: float, value: float) -> Array:
        """`value` where x is between `low` and `high` or one of them, else x."""
        return self.where((x >= low) & (x <= high), self.full((), value, x.dtype), x)

    @in_float32
    def hardshrink_grad(self, g: Array, x: Array, low: float, high: float) -> Array:
        return self.where((x >= low) & (x <= high), self.full((), 0, g.dtype), g)

    @in_float32
    def softshrink(self, x: Array, lambd: float) -> Array:
        """x moved by `lambd` towards 0; 0 where that is not so far, NaN where x is."""
        moved = self.where(x > lambd, x - lambd, x + lambd)
        return self.where((x >= -lambd) & (x <= lambd), self.full((), 0, x.dtype), moved)

    @in_float32
    def prelu(self, x: Array, weight: Array) -> Array:
        """x where x > 0, else weight x. (What the weight multiplies is 0 there: 0 inf is NaN.)"""
        positive = x > 0
        low = self.where(positive, self.full((), 0, x.dtype), x)
        return self.where(positive, x, low * weight)

    def prelu_grad(self, g: Array, x: Array, weight: Array) -> tuple[Array, Array]:
        """The gradients for x, and for the weight at each element of x."""
        positive, zero = x > 0, self.full((), 0, g.dtype)
        below = self.where(positive, zero, g)
        return self.where(positive, g, below * weight), below * self.where(positive, zero, x)

    @in_float32
    def glu(self, x: Array, axis: int) -> Array:
        """a sigmoid(b), with a and b the halves of x along an axis."""
        a, b = _halves(self, x, axis)
        return a * self.sigmoid(b)

    @in_float32
    def glu_grad(self, g: Array, x: Array, axis: int) -> Array:
        a, b = _halves(self, x, axis)
        gate = self.sigmoid(b)
        return self.concatenate([g * gate, self.sigmoid_grad(g, gate) * a], axis)

    @in_float32
    def leaky_relu(self, x: Array, slope: float) -> Array:
        """x where x > 0, else slope x."""
        return self.where(x > 0, x, x * slope)

    @in_float32
    def leaky_relu_grad(self, g: Array, x: Array, slope: float) -> Array:
        return self.where(x > 0, g, g * slope)

    @in_float32
    def hardsigmoid(self, x: Array) -> Array:
        """min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, section 5.2)."""
        return self.hardtanh(x + 3, 0, 6) / 6

    @in_float32
    def hardsigmoid_grad(self, g: Array, x: Array) -> Array:
        return self.where((x > -3) & (x < 3), g / 6, self.full((), 0, g.dtype))

    @in_float32
    def hardswish(self, x: Array) -> Array:
        """x hardsigmoid(x) (Howard et al. 2019, section 5.2)."""
        return x * self.hardtanh(x + 3, 0, 6) / 6

    @in_float32
    def hardswish_grad(self, g: Array, x: Array) -> Array:
        zero, one = self.full((), 0, x.dtype), self.full((), 1, x.dtype)
        slope = self.where(x <= -3, zero, self.where(x < 3, x / 3 + 0.5, one))
        return self.where(x <= -3, zero, g) * slope

    @in_float32
    def elu(self, x: Array, alpha: float, stretch: float, scale: float) -> Array:
        """scale x where x >= 0, else scale alpha (e^(x / stretch) - 1)."""
        low = self.where(x < 0, x, self.full((), 0, x.dtype))  # so that exp cannot overflow
        return self.where(x < 0, self.expm1(low / stretch) * alpha, x) * scale

    @in_float32
    def elu_grad(self, g: Array, x: Array, alpha: float, stretch: float, scale: float) -> Array:
        """The gradient of elu for x. At 0 it has the slope of the exponential, but the second
        derivative is 0."""
        slope, one = self.full((), alpha / stretch, x.dtype), self.full((), 1, x.dtype)
        low = self.where(x < 0, x, self.full((), 0, x.dtype))
        straight = self.where(x == 0, slope, one)
        return self.where(x < 0, self.exp(low / stretch) * slope, straight) * scale * g

    @in_float32
    def softplus(self, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
        """log(1 + exp(beta x)) / beta; the identity where beta x > threshold."""
        z = beta * x
        low = self.minimum(z, self.full((), threshold, x.dtype))
        return self.where(z > threshold, x, self.log1p(self.exp(low)) / beta)

    @in_float32
    def softplus_grad(
        self, g: Array, x: Array, beta: float = 1.0, threshold: float = 20.0
    ) -> Array:
        """The gradient of softplus for x; its own is 0 from the threshold on."""
        z = x * beta
        slope = self.sigmoid(z)
        slope = self.where(z < threshold, slope, self.detach(slope))
        return g * self.where(z > threshold, self.full((), 1, slope.dtype), slope)

    @in_float32
    def silu(self, x: Array) -> Array:
        """x sigmoid(x) (Hendrycks and Gimpel 2016; Elfwing et al. 2017)."""
        return x * self.sigmoid(x)

    @in_float32
    def silu_grad(self, g: Array, x: Array) -> Array:
        s = self.sigmoid(x)
        return g * (s * (1 + x * (1 - s)))

    @in_float32
    def gelu(self, x: Array, approximate: str = "none") -> Array:
        """x Phi(x), Phi the normal distribution function; "tanh" is the approximation that GPT-2
        was trained with (Hendrycks and Gimpel 2016, section 2)."""
        if approximate == "tanh":
            return 0.5 * x * (1 + self.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x)))
        return 0.5 * x * (1 + self.erf(x * SQRT_HALF))

    @in_float32
    def gelu_grad(self, g: Array, x: Array, approximate: str = "none") -> Array:
        if approximate == "tanh":
            t = self.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))
            slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x)
            return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
        density = self.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return g * (0.5 * (1 + self.erf(x * SQRT_HALF)) + x * density)


def _halves(be: Any, x: Array, axis: int) -> tuple[Array, Array]:
    half = x.shape[axis] // 2
    return sliced(be, x, axis, 0, half), sliced(be, x, axis, half, 2 * half)
