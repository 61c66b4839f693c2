"""Softmax, losses and normalisation layers, with their gradients.

Each works on the last axis (`softmax` on any); statistics that a gradient needs are returned.
"""

from __future__ import annotations

import math

from gradient.backends.composed import complex_numbers
from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.composed.shared import is_complex
from gradient.backends.required import Array, Axis, Shape
from gradient.dtypes import HALF_PRECISION, float32, int64


class NormDefaults(ActivationDefaults[Array], ShapeDefaults[Array]):
    """Methods of `Backend` that normalise along an axis."""

    # Softmax -------------------------------------------------------------------------------------

    @in_float32
    def softmax(self, x: Array, axis: Axis) -> Array:
        """exp(x) / sum exp(x) along `axis`: one, several, or all (None)."""
        if 0 in x.shape:
            return x
        e = self.exp(x - self.detach(self.max(x, axis, True)))
        return e / self.sum(e, axis, True)

    @in_float32
    def softmax_grad(self, g: Array, out: Array, axis: int) -> Array:
        return out * (g - self.sum(g * out, axis, True))

    @in_float32
    def log_softmax(self, x: Array, axis: int) -> Array:
        if 0 in x.shape:
            return x
        shifted = x - self.detach(self.max(x, axis, True))
        return shifted - self.log(self.sum(self.exp(shifted), axis, True))

    @in_float32
    def log_softmax_grad(self, g: Array, out: Array, axis: int) -> Array:
        return g - self.exp(out) * self.sum(g, axis, True)

    @in_float32
    def logsumexp(self, x: Array, axis: Axis, keepdims: bool = False) -> Array:
        """log sum exp(x) along `axis` (an int or a tuple); -inf if all elements are -inf."""
        if 0 in x.shape:  # sums of no elements are 0, or the result is empty
            return self.log(self.sum(self.exp(x), axis, keepdims))
        if is_complex(x):
            high = self.detach(complex_numbers.largest_real(self, x, axis))
        else:
            high = self.detach(self.max(x, axis, True))
        high = self.where(self.abs(high) == math.inf, self.zeros_like(high), high)
        total = self.log(self.sum(self.exp(x - high), axis, True)) + high
        return total if keepdims else self.squeeze(total, axis)

    @in_float32
    def logsumexp_grad(self, g: Array, x: Array, out: Array, axis: Axis) -> Array:
        """g softmax(x), for g and the result `out` with axes of size 1 along `axis`; if there is an
        inf, 0 for smaller elements, whose softmax is NaN."""
        if is_complex(x):
            zero = self.full((), 0, x.dtype)
            return g * self.exp(x - self.where(out == math.inf, zero, out))
        beside = (out == math.inf) & (x < math.inf)
        return g * self.where(beside, self.full((), 0, g.dtype), self.softmax(x, axis))

    # Losses --------------------------------------------------------------------------------------

    def squared_error(self, x: Array, target: Array) -> Array:
        """The sum of (x - target)^2."""
        return self.sum_of_squares(x - target)

    def scaled_gap(self, scale: Array, x: Array, target: Array) -> Array:
        """(x - target) scale, for a number `scale`. With scale = 2 g it is the gradient of
        `squared_error` for x."""
        return (x - target) * scale

    @in_float32
    def huber_error(self, x: Array, target: Array, delta: float, divisor: float) -> Array:
        """The sum of d^2 / 2 where d = |x - target| <= delta, else of delta (d - delta / 2),
        divided by `divisor`; with delta 0 the sum of d.

        Beyond delta, it is c (d - c / 2) with c the nearer of -delta and delta, and c is what is
        squared, too: 0 inf would be NaN. No d within it: the derivative of |d| at 0 is 0, which
        would hide the second one."""
        gap = x - target
        if delta == 0:
            return self.sum(self.abs(gap))
        cut = self.detach(self.hardtanh(gap, -delta, delta))
        inside = self.abs(cut) < delta
        near = self.where(inside, gap, cut)
        losses = self.where(inside, 0.5 * near * near, cut * (gap - 0.5 * cut))
        return self.sum(losses / divisor)

    @in_float32
    def huber_error_grad(
        self, g: Array, x: Array, target: Array, delta: float, divisor: float
    ) -> Array:
        """The gradient of `huber_error` for x; g is a number."""
        gap = x - target
        if delta == 0:
            return self.sign(gap) * g
        cut = self.detach(self.hardtanh(gap, -delta, delta))
        return self.where(self.abs(cut) < delta, gap, cut) / divisor * g

    def logistic_error(self, x: Array, target: Array) -> Array:
        """The sum of -(t log s + (1 - t) log(1 - s)), where s = sigmoid(x). As log(1 - s) = log(s)
        - x, this is the sum of (1 - t) x - log(s), which cannot overflow."""
        return self.sum((1 - target) * x - self.logsigmoid(x))

    def logistic_error_grad(self, g: Array, x: Array, target: Array) -> Array:
        """The gradient of `logistic_error` for x."""
        return ((1 - target) - self.sigmoid(-x)) * g

    @in_float32
    def cross_entropy(
        self, logits: Array, target: Array, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array]:
        """Logits (N, C) and int64 targets (N,) -> the losses of the rows, their largest logits, and
        the logarithms of their sums of e^(logit - largest), each (N,). The loss is 0 for the target
        `ignore_index`. `label_smoothing` mixes the target with the uniform distribution (Szegedy et
        al. 2015, section 7).

        `largest` and the logarithm are not added: a large logit would absorb the digits of the
        logarithm.
        """
        high = self.detach(self.max(logits, -1, True))
        shifted = logits - high
        log_sum = self.log(self.sum(self.exp(shifted), -1))
        valid = target != ignore_index
        column = self.reshape(self.where(valid, target, self.zeros_like(target)), (-1, 1))
        loss = log_sum - self.reshape(self.take_along(shifted, column, 1), (-1,))
        if label_smoothing:
            uniform = log_sum - self.mean(shifted, -1)
            loss = (1 - label_smoothing) * loss + label_smoothing * uniform
        return self.where(valid, loss, self.zeros_like(loss)), self.reshape(high, (-1,)), log_sum

    def cross_entropy_in_float32(
        self, logits: Array, target: Array, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array]:
        """`cross_entropy` with losses in float32 for 16-bit logits."""
        if logits.dtype in HALF_PRECISION:
            logits = self.astype(logits, float32.numpy)
        return self.cross_entropy(logits, target, ignore_index, label_smoothing)

    def mean_cross_entropy(
        self, logits: Array, target: Array, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array, Array]:
        """`mean_of_counted` of the losses of `cross_entropy` (the mean and the count), and the
        other results of `cross_entropy`."""
        losses, high, log_sum = self.cross_entropy(logits, target, ignore_index, label_smoothing)
        return *self.mean_of_counted(losses, target, ignore_index), high, log_sum

    @in_float32
    def cross_entropy_grad(
        self,
        g: Array,
        logits: Array,
        target: Array,
        high: Array,
        log_sum: Array,
        ignore_index: int,
        label_smoothing: float,
    ) -> Array:
        """The gradient for logits (N, C) from g (N,), which may be float32 with 16-bit logits."""
        valid = target != ignore_index
        g = self.reshape(self.where(valid, g, self.zeros_like(g)), (-1, 1))
        column = self.reshape(self.where(valid, target, self.zeros_like(target)), (-1, 1))
        p = self.exp((logits - self.reshape(high, (-1, 1))) - self.reshape(log_sum, (-1, 1)))
        if label_smoothing:
            p = p - label_smoothing / logits.shape[1]
        hot = self.arange(0, logits.shape[1], 1, target.dtype) == column
        return g * self.where(hot, p - (1 - label_smoothing), p)

    @in_float32
    def mean_of_counted(self, x: Array, target: Array, ignore_index: int) -> tuple[Array, Array]:
        """The sum of losses (N,), divided by the number of targets (N,) that are not
        `ignore_index`; and this number. Without such targets the mean is NaN. (In 16 bits both
        could overflow.)"""
        count = self.sum(self.astype(target, int64.numpy) != ignore_index)
        count = self.astype(count, x.dtype)
        return self.sum(x) / count, count

    def nll(self, x: Array, target: Array, ignore_index: int) -> Array:
        """-x[i, target[i]] for x (N, C) and integers (N,); 0 where the target is `ignore_index`."""
        valid = target != ignore_index
        column = self.reshape(self.where(valid, target, self.zeros_like(target)), (-1, 1))
        loss = -self.reshape(self.take_along(x, column, 1), (-1,))
        return self.where(valid, loss, self.zeros_like(loss))

    def nll_grad(self, g: Array, shape: Shape, target: Array, ignore_index: int) -> Array:
        """The gradient of `nll` for x, which has `shape`, from g (N,)."""
        valid = target != ignore_index
        column = self.reshape(self.where(valid, target, self.zeros_like(target)), (-1, 1))
        value = self.reshape(self.where(valid, -g, self.zeros_like(g)), (-1, 1))
        return self.put_along(self.zeros(tuple(shape), g.dtype), column, value, 1, False)

    # Normalisation over the last axis ------------------------------------------------------------

    @in_float32
    def layer_norm(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """(x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016), and the
        mean and 1/sqrt(var + eps), each (..., 1). `weight` and `bias` (D,) may be None."""
        mean = self.mean(x, -1, True)
        centred = x - mean
        centred = centred - self.mean(centred, -1, True)  # not exactly 0, as the mean was rounded
        rstd = 1 / self.sqrt(self.mean(centred * centred, -1, True) + eps)
        y = centred * rstd
        if weight is not None:
            y = y * weight
        if bias is not None:
            y = y + bias
        return y, mean, rstd

    @in_float32
    def layer_norm_grad(
        self, g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
    ) -> tuple[Array, Array | None, Array]:
        """Gradients for x, weight (None without weight) and bias (D,). Of 16 bits those for weight
        and bias are float32, or, by a kernel, rounded already."""
        rows = tuple(range(len(x.shape) - 1))
        normed = (x - mean) * rstd
        gn = g if weight is None else g * weight
        gx = rstd * (gn - self.mean(gn, -1, True) - normed * self.mean(gn * normed, -1, True))
        gw = None if weight is None else self.sum(g * normed, rows)
        return gx, gw, self.sum(g, rows)

    def rms_norm(
        self, x: Array, weight: Array | None, eps: float, round_first: bool = False
    ) -> tuple[Array, Array]:
        """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019), and the
        reciprocal root (..., 1). `weight` (D,) may be None.

        `round_first`: round the quotient to x's dtype before the multiplication; this changes only
        results in 16 bits.
        """
        if weight is None or not round_first or x.dtype not in HALF_PRECISION:
            return self._rms_norm(x, weight, eps)
        y, rstd = self.rms_norm(x, None, eps)
        return y * weight, rstd

    @in_float32
    def _rms_norm(self, x: Array, weight: Array | None, eps: float) -> tuple[Array, Array]:
        rstd = 1 / self.sqrt(self.mean(x * x, -1, True) + eps)
        y = x * rstd
        return (y if weight is None else y * weight), rstd

    @in_float32
    def rms_norm_grad(
        self, g: Array, x: Array, weight: Array | None, rstd: Array
    ) -> tuple[Array, Array | None]:
        """Gradients for x and weight (None without weight); the latter as of `layer_norm_grad`."""
        normed = x * rstd
        gn = g if weight is None else g * weight
        gx = rstd * (gn - normed * self.mean(gn * normed, -1, True))
        gw = None if weight is None else self.sum(g * normed, tuple(range(len(x.shape) - 1)))
        return gx, gw
