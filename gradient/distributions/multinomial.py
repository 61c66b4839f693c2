"""Multinomial: counts of several choices among K classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient import functional as F
from gradient.distributions import constraints
from gradient.distributions.categorical import Categorical
from gradient.distributions.counting import Binomial
from gradient.distributions.distribution import Distribution, same_as
from gradient.errors import ArgumentError, sentence
from gradient.ops.special import lgamma
from gradient.tensor import Tensor

__all__ = [
    "Multinomial",
]


class Multinomial(Distribution):
    """How often each of K classes comes in `total_count` draws of a `Categorical`: (K,)."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    total_count: int

    def __init__(
        self,
        total_count: int = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int):
            expected = "total_count, one int for the whole batch"
            raise ArgumentError(sentence("Multinomial", expected, total_count))
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    @property
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    probs: Tensor = same_as("_categorical.probs")
    logits: Tensor = same_as("_categorical.logits")
    param_shape: Any = same_as("_categorical.param_shape")

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = self._categorical.sample((self.total_count, *sample_shape))
        return F.one_hot(drawn, self.event_shape[0]).sum(0).to(self.probs.dtype)

    def entropy(self) -> Tensor:
        n = self.total_count
        coins = Binomial(n, probs=self.probs)
        counts = coins.enumerate_support(False)
        # The entropy of n draws in their order, less that of the orders.
        orders = (coins.log_prob(counts).exp() * lgamma(counts + 1)).sum((0, -1))
        return n * self._categorical.entropy() - math.lgamma(n + 1) + orders

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        # 0 log 0 = 0
        logits = self.logits.masked_fill((value == 0) & (self.logits == -float("inf")), 0.0)
        ways = lgamma(value.sum(-1) + 1) - lgamma(value + 1).sum(-1)
        return ways + (logits * value).sum(-1)
