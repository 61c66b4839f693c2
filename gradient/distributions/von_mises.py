"""The von Mises distribution, of angles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.autograd import no_grad
from gradient.distributions import constraints
from gradient.distributions.distribution import Distribution, broadcast_all, same_as
from gradient.ops.special import bessel_ie
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.creation import ones_like
from gradient.tensor.joining import where

__all__ = [
    "VonMises",
]

LOG_2PI = math.log(2 * math.pi)


class VonMises(Distribution):
    """Of angles in radians, around `loc`: the normal distribution's like on a circle.

    exp(concentration * cos(x - loc)) / (2 pi I_0(concentration)), with draws from -pi to pi. The
    variance is the circular one, 1 - I_1(concentration) / I_0(concentration).
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all("VonMises", loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    mean: Tensor = same_as("loc")
    mode: Tensor = same_as("loc")

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return 1 - bessel_ie(k, order=1) / bessel_ie(k, order=0)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        # log I_0(k) = k + log(exp(-k) I_0(k)), whose last factor does not overflow.
        k = self.concentration
        return k * ((value - self.loc).cos() - 1) - LOG_2PI - bessel_ie(k, order=0).log()

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw by rejection from a wrapped Cauchy distribution (Best and Fisher 1979)."""
        shape = self._extended_shape(sample_shape)
        with no_grad():
            k = self.concentration.double().expand(shape)
            tau = 1 + (1 + 4 * k**2).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            # Below 1e-5 rho has no digits left, and r is its series.
            r = where(k < 1e-5, 1 / k + k, (1 + rho**2) / (2 * rho))
            waiting = k == k
            cosine = ones_like(k)
            for _ in range(200):  # accepted with probability 0.65 and more
                u = rand((2, *shape), dtype=k.dtype, device=k.device)
                z = (math.pi * u[0]).cos()
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                accepted = (c * (2 - c) > u[1]) | ((c / u[1]).log() + 1 - c >= 0)
                cosine = where(waiting & accepted, f, cosine)
                waiting = waiting & ~accepted
                if not bool(waiting.any()):
                    break
            side = where(rand(shape, dtype=k.dtype, device=k.device) < 0.5, -1.0, 1.0)
            angle = self.loc + side * cosine.clamp(-1, 1).acos()
            return ((angle + math.pi) % (2 * math.pi) - math.pi).to(self.loc.dtype)
