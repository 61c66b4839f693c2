"""Continuous versions of Bernoulli and OneHotCategorical, whose draws have gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from gradient.distributions import constraints
from gradient.distributions.by_probability import ByProbability, clamp_probs
from gradient.distributions.distribution import broadcast_all, same_as
from gradient.distributions.transformed import TransformedDistribution
from gradient.distributions.transforms.elementwise import ExpTransform, SigmoidTransform
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.creation_like import full_like

__all__ = ["RelaxedBernoulli", "RelaxedOneHotCategorical"]


class LogitRelaxedBernoulli(ByProbability):
    """The log odds of a `RelaxedBernoulli`."""

    has_rsample = True
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.real

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self._set_probs_or_logits(probs, logits)
        (self.temperature,) = broadcast_all("RelaxedBernoulli", temperature)
        name = "probs" if "probs" in vars(self) else "logits"
        both = broadcast_all("RelaxedBernoulli", self._param, self.temperature)
        vars(self)[name], self.temperature = both
        super().__init__(self._param.shape, validate_args=validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        probs = clamp_probs(self.probs.expand(shape))
        u = clamp_probs(rand(shape, dtype=probs.dtype, device=probs.device))
        odds = u.log() - (-u).log1p() + probs.log() - (-probs).log1p()
        return odds / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        off = self.logits - value * self.temperature
        return self.temperature.log() + off - 2 * off.exp().log1p()


class RelaxedBernoulli(TransformedDistribution):
    """Numbers from 0 to 1; at temperature 0 a `Bernoulli` (Maddison et al. 2017)."""

    has_rsample = True
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    base_dist: LogitRelaxedBernoulli

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args=validate_args)

    temperature: Tensor = same_as("base_dist.temperature")
    probs: Tensor = same_as("base_dist.probs")
    logits: Tensor = same_as("base_dist.logits")


class ExpRelaxedCategorical(ByProbability):
    """The logarithm of a `RelaxedOneHotCategorical`."""

    _binary = False
    has_rsample = True
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.real_vector

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if validate_args is not None:
            self._validate_args = validate_args
        self._set_probs_or_logits(probs, logits)
        self.temperature = temperature  # one for the whole batch
        shape = self._param.shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        made = super().expand(batch_shape)
        made.temperature = self.temperature
        return made

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        u = clamp_probs(rand(shape, dtype=self.logits.dtype, device=self.logits.device))
        scores = (self.logits - (-u.log()).log()) / self.temperature
        return scores - scores.logsumexp(-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        count = self.event_shape[0]
        temperature = self.temperature
        if not isinstance(temperature, Tensor):
            temperature = full_like(self.logits.detach()[..., 0], float(temperature))
        score = self.logits - value * self.temperature
        score = (score - score.logsumexp(-1, keepdim=True)).sum(-1)
        return score + temperature.log() * (count - 1) + math.lgamma(count)


class RelaxedOneHotCategorical(TransformedDistribution):
    """Vectors (K,) with sum 1; at temperature 0 a `OneHotCategorical` (Jang et al. 2017)."""

    has_rsample = True
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.simplex
    base_dist: ExpRelaxedCategorical

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    temperature: Tensor = same_as("base_dist.temperature")
    probs: Tensor = same_as("base_dist.probs")
    logits: Tensor = same_as("base_dist.logits")
