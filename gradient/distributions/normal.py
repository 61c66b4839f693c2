"""The normal distribution, and its exponential."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.continuous import LocationScale
from gradient.distributions.distribution import same_as
from gradient.distributions.exponential_family import ExponentialFamily
from gradient.distributions.transformed import TransformedDistribution
from gradient.distributions.transforms.elementwise import ExpTransform
from gradient.random import randn
from gradient.tensor import Tensor

__all__ = ["LogNormal", "Normal"]

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal(LocationScale, ExponentialFamily):
    """The normal distribution of mean `loc` and standard deviation `scale`."""

    stddev: Tensor = same_as("scale")

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        squares = ((value - self.loc) / self.scale) ** 2
        return -0.5 * squares - self.scale.log() - HALF_LOG_2PI

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return 0.5 * (1 + ((value - self.loc) / (self.scale * math.sqrt(2))).erf())

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * (2 * value - 1).erfinv() * math.sqrt(2)

    def entropy(self) -> Tensor:
        return 0.5 + HALF_LOG_2PI + self.scale.log()


class LogNormal(TransformedDistribution):
    """The distribution of `exp(x)`, x of `Normal(loc, scale)`."""

    has_rsample = True
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.positive
    base_dist: Normal

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    loc: Tensor = same_as("base_dist.loc")
    scale: Tensor = same_as("base_dist.scale")

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def mode(self) -> Tensor:
        return (self.loc - self.scale**2).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale**2
        return square.expm1() * (2 * self.loc + square).exp()

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc
