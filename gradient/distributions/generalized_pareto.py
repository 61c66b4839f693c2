"""The generalized Pareto distribution, of what exceeds a threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.distribution import Distribution, broadcast_all, same_as
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.joining import where

__all__ = ["GeneralizedPareto"]


class GeneralizedPareto(Distribution):
    """Beyond x, with z = (x - loc) / scale, lies a part `(1 + concentration z)^(-1 /
    concentration)`, or `exp(-z)` if the concentration is 0 (Pickands 1975)."""

    has_rsample = True
    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }

    def __init__(
        self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None
    ) -> None:
        given = broadcast_all("GeneralizedPareto", loc, scale, concentration)
        self.loc, self.scale, self.concentration = given
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        end = where(self.concentration < 0, self.loc - self.scale / self.concentration, math.inf)
        return constraints.interval(self.loc, end)

    def _exponential(self) -> tuple[Tensor, Tensor]:
        """Where the concentration is 0 (to 1e-8, as PyTorch has it), and the concentration, 1
        there."""
        zero = self.concentration.detach().abs() <= 1e-8
        return zero, self.concentration.masked_fill(zero, 1.0)

    def _z(self, value: Tensor) -> Tensor:
        return (value - self.loc) / self.scale

    @property
    def mean(self) -> Tensor:
        fits = self.concentration < 1
        k = where(fits, self.concentration, 0.5)
        return where(fits, self.loc + self.scale / (1 - k), math.nan)

    mode: Tensor = same_as("loc")

    @property
    def variance(self) -> Tensor:
        fits = self.concentration < 0.5
        k = where(fits, self.concentration, 0.25)
        return where(fits, self.scale**2 / ((1 - k) ** 2 * (1 - 2 * k)), math.nan)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        z = self._z(value)
        zero, k = self._exponential()
        power = 1 / k + 1
        tail = where(power == 0, power, power * (k * z).log1p())
        return -self.scale.log() - where(zero, z, tail)

    def log_survival_function(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of more than `value`."""
        self._validate_sample(value)
        z = self._z(value)
        zero, k = self._exponential()
        return where(zero, -z, -(k * z).log1p() / k)

    def log_cdf(self, value: Tensor) -> Tensor:
        """The logarithm of the `cdf`."""
        return (-self.log_survival_function(value).exp()).log1p()

    def cdf(self, value: Tensor) -> Tensor:
        return self.log_cdf(value).exp()

    def icdf(self, value: Tensor) -> Tensor:
        left = (-value).log1p()
        zero, k = self._exponential()
        power = self.loc + self.scale / k * (-k * left).expm1()
        return where(zero, self.loc - self.scale * left, power)

    def entropy(self) -> Tensor:
        return self.scale.log() + self.concentration + 1
