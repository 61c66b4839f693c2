"""Draws from the gamma distribution, and their gradient for its concentration."""

from __future__ import annotations

import math
from typing import Any

from gradient.autograd import Function, no_grad, once_differentiable
from gradient.dtypes import finfo
from gradient.ops.special import digamma
from gradient.random import rand, randn
from gradient.tensor import Tensor
from gradient.tensor.arguments import anywhere
from gradient.tensor.joining import where

__all__ = ["standard_gamma"]

LARGE = 200.0
"""From this concentration on the gradient is that of Wilson and Hilferty's normal approximation."""


class _StandardGamma(Function):
    """A draw for each concentration, of rate 1; the gradient is implicit (Figurnov et al. 2018)."""

    @staticmethod
    def forward(ctx: Any, concentration: Tensor) -> Tensor:
        drawn = draw(concentration)
        ctx.save_for_backward(concentration, drawn)
        return drawn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        concentration, drawn = ctx.saved_tensors
        return grad * implicit_gradient(concentration, drawn)


def standard_gamma(concentration: Tensor) -> Tensor:
    """Return a draw of rate 1 for each concentration, with a gradient for it."""
    result: Tensor = _StandardGamma.apply(concentration)
    return result


def draw(concentration: Tensor) -> Tensor:
    """Draw by rejection (Marsaglia and Tsang 2000); for a < 1, a draw for a + 1 times u^(1 / a)."""
    with no_grad():
        a = concentration.detach().double()
        boosted = a < 1
        shifted = where(boosted, a + 1, a)
        d = shifted - 1 / 3
        c = 1 / (9 * d).sqrt()
        result, waiting = d, a == a
        for _ in range(200):  # the probability of acceptance is at least 0.95
            x = randn(a.shape, dtype=a.dtype, device=a.device)
            u = rand(a.shape, dtype=a.dtype, device=a.device)
            v = (1 + c * x) ** 3
            positive = v > 0
            log_v = where(positive, v, 1.0).log()
            accepted = positive & (u.log() < 0.5 * x**2 + d * (1 - v + log_v))
            result = where(waiting & accepted, d * v, result)
            waiting = waiting & ~accepted
            if not anywhere(waiting):
                break
        u = rand(a.shape, dtype=a.dtype, device=a.device)
        result = where(boosted, result * u ** (1 / where(boosted, a, 1.0)), result)
        tiny = finfo(concentration.dtype).tiny
        return result.clamp(min=tiny).to(concentration.dtype)


def implicit_gradient(concentration: Tensor, drawn: Tensor) -> Tensor:
    """dz/da = -(dP(a, z)/da) / p(z; a), for P the distribution function and p the density.

    P is the series of positive terms t_n = z^(a + n) exp(-z) / Gamma(a + n + 1), so that its
    derivative is the sum of t_n (log z - digamma(a + n + 1)).
    """
    a, z = concentration.detach().double(), drawn.detach().double()
    large = a > LARGE
    small_a, small_z = where(large, 1.0, a), where(large, 1.0, z)
    log_z = small_z.log()
    # t_0 / p = z / a: the density is z^(a - 1) exp(-z) / Gamma(a)
    term, psi = small_z / small_a, digamma(small_a + 1)
    total = term * (log_z - psi)
    longest = float(small_z.max()) if z.numel() else 0.0
    for n in range(1, int(longest + 12 * math.sqrt(longest) + 60)):
        term = term * small_z / (small_a + n)
        psi = psi + 1 / (small_a + n)
        total = total + term * (log_z - psi)
    # z = a (1 - 1 / (9 a) + e / (3 sqrt(a)))^3 for a normal e, which is constant
    root = (z / a) ** (1 / 3)
    slope = 3 * root**2 * (1 / (9 * a) - (root - 1 + 1 / (9 * a)) / 2)
    approximate = root**3 + slope
    return where(large, approximate, -total).to(concentration.dtype)
