"""Continuous distributions of one number or angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.autograd import no_grad
from gradient.distributions import constraints
from gradient.distributions.distribution import Distribution, broadcast_all, require, same_as
from gradient.distributions.exponential_family import ExponentialFamily
from gradient.dtypes import finfo
from gradient.ops.special import bessel_ie
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.arguments import anywhere
from gradient.tensor.creation_like import ones_like
from gradient.tensor.joining import where

__all__ = ["Cauchy", "Exponential", "GeneralizedPareto", "Gumbel", "Laplace", "Uniform", "VonMises"]

EULER = 0.57721566490153286060
"""Euler and Mascheroni's constant."""


class _Continuous(Distribution):
    """Base of distributions that are drawn by `icdf` of uniform numbers."""

    has_rsample = True

    def _uniform(self, sample_shape: Sequence[int], like: Tensor) -> Tensor:
        """Uniform numbers in (0, 1), without both ends."""
        u = rand(self._extended_shape(sample_shape), dtype=like.dtype, device=like.device)
        return u.clamp(min=finfo(u.dtype).tiny)


class Uniform(_Continuous):
    """The uniform distribution on [low, high)."""

    arg_constraints = {"low": constraints.dependent, "high": constraints.dependent}

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all("Uniform", low, high)
        super().__init__(self.low.shape, validate_args=validate_args)

    def _check_parameters(self) -> None:
        require(self.low < self.high, "Uniform", "low < high", self.low, self.high)

    @property
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        return self.high * math.nan

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        u = rand(shape, dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        inside = (self.low <= value) & (self.high > value)
        return inside.to(self.low.dtype).log() - (self.high - self.low).log()

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()


class Exponential(_Continuous, ExponentialFamily):
    """The exponential distribution, with density `rate exp(-rate x)` for x >= 0."""

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all("Exponential", rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.detach() * 0

    @property
    def stddev(self) -> Tensor:
        return 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate**-2

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand(self._extended_shape(sample_shape), dtype=self.rate.dtype, device=self.rate.device)
        return -(-u).log1p() / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return self.rate.log() - self.rate * value

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return 1 - (-self.rate * value).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()


class LocationScale(_Continuous):
    """The distribution of `loc + scale z`, where z has a distribution without parameters."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(type(self).__name__, loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode: Tensor = same_as("loc")


class Laplace(LocationScale):
    """The Laplace distribution, with density proportional to `exp(-|x - loc| / scale)`."""

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale**2

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(2) * self.scale

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = self._uniform(sample_shape, self.loc) * 2 - 1
        u = u.clamp(min=finfo(u.dtype).eps - 1)
        return self.loc - self.scale * u.sign() * (-u.abs()).log1p()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return -(2 * self.scale).log() - (value - self.loc).abs() / self.scale

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        off = value - self.loc
        return 0.5 - 0.5 * off.sign() * (-off.abs() / self.scale).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()

    def entropy(self) -> Tensor:
        return 1 + (2 * self.scale).log()


class Gumbel(LocationScale):
    """The Gumbel distribution of maxima: `loc - scale log(-log(u))`, u uniform."""

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * EULER

    @property
    def stddev(self) -> Tensor:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Tensor:
        return self.stddev**2

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = self._uniform(sample_shape, self.loc)
        return self.icdf(u)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        y = (self.loc - value) / self.scale
        return (y - y.exp()) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return (-(-(value - self.loc) / self.scale).exp()).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc - self.scale * (-value.log()).log()

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + EULER)


class Cauchy(LocationScale):
    """The Cauchy distribution: `loc + scale tan(pi (u - 1/2))`, u uniform; it has no mean."""

    @property
    def mean(self) -> Tensor:
        return self.loc.new_full(self.batch_shape, math.nan)

    @property
    def variance(self) -> Tensor:
        return self.loc.new_full(self.batch_shape, math.inf)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape, self.loc))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        squares = ((value - self.loc) / self.scale) ** 2
        return -math.log(math.pi) - self.scale.log() - squares.log1p()

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * (math.pi * (value - 0.5)).tan()

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + self.scale.log()


class GeneralizedPareto(Distribution):
    """The generalized Pareto distribution (Pickands 1975). With z = (x - loc) / scale, P(X > x) is
    `(1 + concentration z)^(-1 / concentration)`, or `exp(-z)` if the concentration is 0."""

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
        """Where the concentration is 0 (within 1e-8, as in PyTorch), and the concentration with 1
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
        """The logarithm of the probability of a larger outcome than `value`."""
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


LOG_2PI = math.log(2 * math.pi)


class VonMises(Distribution):
    """The von Mises distribution of angles in radians around `loc`: normal, on a circle.

    The density is exp(concentration * cos(x - loc)) / (2 pi I_0(concentration)); draws are from -pi
    to pi. The variance is the circular one, 1 - I_1(concentration) / I_0(concentration).
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
            for _ in range(200):  # the probability of acceptance is at least 0.65
                u = rand((2, *shape), dtype=k.dtype, device=k.device)
                z = (math.pi * u[0]).cos()
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                accepted = (c * (2 - c) > u[1]) | ((c / u[1]).log() + 1 - c >= 0)
                cosine = where(waiting & accepted, f, cosine)
                waiting = waiting & ~accepted
                if not anywhere(waiting):
                    break
            side = where(rand(shape, dtype=k.dtype, device=k.device) < 0.5, -1.0, 1.0)
            angle = self.loc + side * cosine.clamp(-1, 1).acos()
            return ((angle + math.pi) % (2 * math.pi) - math.pi).to(self.loc.dtype)
