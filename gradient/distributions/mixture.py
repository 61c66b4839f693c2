"""Mixtures of distributions of one family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.distributions.categorical import Categorical
from gradient.distributions.distribution import Distribution, same_as
from gradient.errors import ArgumentError, sentence
from gradient.tensor import Tensor

__all__ = [
    "MixtureSameFamily",
]


class MixtureSameFamily(Distribution):
    """One of the K distributions along the last batch dimension of `component_distribution`, as the
    `Categorical` `mixture_distribution` chooses."""

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        name = "MixtureSameFamily"
        if not isinstance(mixture_distribution, Categorical):
            got = type(mixture_distribution).__name__
            raise ArgumentError(sentence(name, "a Categorical as mixture_distribution", got))
        batch = component_distribution.batch_shape
        if not batch or mixture_distribution.param_shape[-1] != batch[-1]:
            expected = f"{mixture_distribution.param_shape[-1]} components in the last batch dim"
            raise ArgumentError(sentence(name, expected, tuple(batch)))
        self.mixture_distribution = mixture_distribution
        self.component_distribution = component_distribution
        self._events = len(component_distribution.event_shape)
        super().__init__(batch[:-1], component_distribution.event_shape, validate_args)

    support: Any = same_as("component_distribution.support")

    def _weights(self) -> Tensor:
        probs = self.mixture_distribution.probs
        return probs.reshape((*probs.shape, *(1,) * self._events))

    @property
    def mean(self) -> Tensor:
        return (self._weights() * self.component_distribution.mean).sum(-1 - self._events)

    @property
    def variance(self) -> Tensor:
        dim, component = -1 - self._events, self.component_distribution
        within = (self._weights() * component.variance).sum(dim)
        apart = (component.mean - self.mean.unsqueeze(dim)) ** 2
        return within + (self._weights() * apart).sum(dim)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        value = value.unsqueeze(-1 - self._events)
        each = self.component_distribution.log_prob(value)
        return (each + self.mixture_distribution.logits.log_softmax(-1)).logsumexp(-1)

    def cdf(self, value: Tensor) -> Tensor:
        each = self.component_distribution.cdf(value.unsqueeze(-1 - self._events))
        return (each * self.mixture_distribution.probs).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        dim = -1 - self._events
        chosen = self.mixture_distribution.sample(sample_shape)
        each = self.component_distribution.sample(sample_shape)
        index = chosen.reshape((*chosen.shape, 1, *(1,) * self._events))
        sizes = list(each.shape)
        sizes[dim] = 1
        return each.gather(each.ndim + dim, index.expand(tuple(sizes))).squeeze(dim)

    def __repr__(self) -> str:
        return f"MixtureSameFamily({self.mixture_distribution}, {self.component_distribution})"
