"""Scans: results along an axis that each depend on the one beside it, by doubling (Hillis and
Steele 1986), in as many steps as the length has binary digits."""

from __future__ import annotations

from gradient.backends.composed.elementwise import ElementwiseDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.composed.shared import sliced
from gradient.backends.required import Array


class ScanDefaults(ElementwiseDefaults[Array], ShapeDefaults[Array]):
    """Running sums with factors, and in logarithms."""

    @in_float32
    def recurrent_sum(self, g: Array, factors: Array, axis: int) -> Array:
        """r, where r_i = g_i + factors_i r_(i+1). After the step of length s, r_i has its first 2 s
        terms, and `factors`, one shorter than g, holds products of 2 s factors from i."""
        n, step = g.shape[axis], 1
        while step < n:
            added = factors * sliced(self, g, axis, step, n)
            head = sliced(self, g, axis, 0, n - step) + added
            g = self.concatenate([head, sliced(self, g, axis, n - step, n)], axis)
            left = n - 2 * step if n > 2 * step else 0
            later = sliced(self, factors, axis, step, step + left)
            factors = sliced(self, factors, axis, 0, left) * later
            step *= 2
        return g

    @in_float32
    def logcumsumexp(self, x: Array, axis: int) -> Array:
        """The logarithm of the running sum of exponentials of real numbers."""
        n, step = x.shape[axis], 1
        if n < 2:
            return self.copy(x)
        while step < n:
            head = sliced(self, x, axis, 0, step)
            later, earlier = sliced(self, x, axis, step, n), sliced(self, x, axis, 0, n - step)
            x, step = self.concatenate([head, self.logaddexp(later, earlier)], axis), 2 * step
        return x
