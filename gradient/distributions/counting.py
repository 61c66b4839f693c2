"""Distributions of trials and counts: Bernoulli, Binomial, Geometric, NegativeBinomial, Poisson."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient import functional as F
from gradient.autograd import no_grad
from gradient.distributions import constraints
from gradient.distributions.by_probability import ByProbability
from gradient.distributions.count_sampling import binomial, poisson
from gradient.distributions.distribution import broadcast_all, listed, require, same_as
from gradient.distributions.exponential_family import ExponentialFamily
from gradient.distributions.gamma_sampling import standard_gamma
from gradient.dtypes import finfo
from gradient.ops.special import lgamma
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.creation import arange
from gradient.tensor.joining import broadcast_tensors, where

__all__ = ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson"]


class Bernoulli(ByProbability, ExponentialFamily):
    """The Bernoulli distribution: 1 with probability `probs`, else 0; `logits` are the log odds."""

    has_enumerate_support = True
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._set_probs_or_logits(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)

    mean: Tensor = same_as("probs")

    @property
    def mode(self) -> Tensor:
        ties = self.probs == 0.5
        return (self.probs >= 0.5).to(self.probs.dtype).masked_fill(ties, math.nan)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.probs.detach().expand(shape).bernoulli()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        logits, value = broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return self._entropy_of_odds()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = arange(2, dtype=self._param.dtype, device=self._param.device)
        return listed(values, self, expand)


class _Counted(ByProbability):
    """Base of distributions with `total_count` trials."""

    def __init__(
        self,
        total_count: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self._set_probs_or_logits(probs, logits)
        name = "probs" if "probs" in vars(self) else "logits"
        self.total_count, given = broadcast_all(type(self).__name__, total_count, self._param)
        self.total_count = self.total_count.to(given.dtype)
        vars(self)[name] = given
        super().__init__(given.shape, validate_args=validate_args)


class Binomial(_Counted):
    """The number of successes in `total_count` trials with probability `probs`."""

    has_enumerate_support = True
    arg_constraints = {
        "total_count": constraints.nonnegative_integer,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }

    def __init__(
        self,
        total_count: Any = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(total_count, probs, logits, validate_args)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().minimum(self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        n, logits = self.total_count, self.logits
        ways = lgamma(n + 1) - lgamma(value + 1) - lgamma(n - value + 1)
        # n log(1 - p) = -n softplus(logits)
        return ways + value * logits - n * F.softplus(logits, threshold=_WIDE)

    def entropy(self) -> Tensor:
        values = self.enumerate_support(False)
        log_prob = self.log_prob(values)
        return -(log_prob.exp() * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        most = int(self.total_count.max())
        if int(self.total_count.min()) != most:
            raise NotImplementedError("Binomial: outcomes of unequal total_count have no list")
        values = arange(most + 1, dtype=self._param.dtype, device=self._param.device)
        return listed(values, self, expand)


_WIDE = 100.0
"""Above it softplus(x) is x, to the last bit of float64."""


class Geometric(ByProbability):
    """The number of failures before the first success, with probability `probs` of success."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._set_probs_or_logits(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)
        if self._validate_args and probs is not None:
            require(self.probs > 0, "Geometric", "probs greater than 0", self.probs)

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return self.probs.detach() * 0

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with no_grad():
            u = rand(shape, dtype=self.probs.dtype, device=self.probs.device)
            u = u.clamp(min=finfo(u.dtype).tiny)
            return (u.log() / (-self.probs.expand(shape)).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        probs, value = broadcast_tensors(self.probs, value)
        certain = (probs == 1) & (value == 0)
        return value * (-probs.masked_fill(certain, 0.0)).log1p() + self.probs.log()

    def entropy(self) -> Tensor:
        return self._entropy_of_odds() / self.probs


class NegativeBinomial(_Counted):
    """The number of successes, with probability `probs`, before `total_count` failures."""

    arg_constraints = {
        "total_count": constraints.nonnegative,
        "probs": constraints.half_open_interval(0, 1),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            shape = self._extended_shape(sample_shape)
            rate = standard_gamma(self.total_count.expand(shape)) * self.logits.exp()
            return poisson(rate)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        n = self.total_count
        unnormalized = n * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits)
        ways = lgamma(1 + value) + lgamma(n) - lgamma(n + value)
        return unnormalized - where(n + value == 0, 0.0, ways)


class Poisson(ExponentialFamily):
    """The Poisson distribution: the number of events if `rate` are expected."""

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all("Poisson", rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    mean: Tensor = same_as("rate")

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    variance: Tensor = same_as("rate")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        rate, value = broadcast_tensors(self.rate, value)
        nothing = (value == 0) & ((rate == 0) | (rate == math.inf))  # 0 log 0 = 0 log inf = 0
        product = where(nothing, 0.0, value * where(nothing, 1.0, rate).log())
        return product - rate - lgamma(value + 1)
