"""Distributions over K classes: class indices, one-hot vectors, and counts of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient import functional as F
from gradient.distributions import constraints
from gradient.distributions.by_probability import ByProbability
from gradient.distributions.counting import Binomial
from gradient.distributions.distribution import Distribution, listed, same_as
from gradient.dtypes import finfo
from gradient.errors import ArgumentError, sentence
from gradient.ops.special import lgamma
from gradient.tensor import Tensor
from gradient.tensor.creation import arange, eye
from gradient.tensor.joining import broadcast_shapes

__all__ = ["Categorical", "Multinomial", "OneHotCategorical", "OneHotCategoricalStraightThrough"]


class Categorical(ByProbability):
    """Class indices 0 to K - 1, with probabilities proportional to `probs` (..., K), or to `exp` of
    `logits`."""

    _binary = False
    has_enumerate_support = True
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if validate_args is not None:
            self._validate_args = validate_args
        self._set_probs_or_logits(probs, logits)
        self._num_events = self._param.shape[-1]
        super().__init__(self._param.shape[:-1], validate_args=validate_args)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Tensor:
        return self.probs.new_full(self.batch_shape, float("nan"))

    @property
    def variance(self) -> Tensor:
        return self.probs.new_full(self.batch_shape, float("nan"))

    @property
    def mode(self) -> Tensor:
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        count = 1
        for size in sample_shape:
            count *= size
        rows = self.probs.detach().reshape(-1, self._num_events)
        drawn = rows.multinomial(count, True).T if count else rows.new_zeros((0, len(rows))).long()
        return drawn.reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        index = value.long().unsqueeze(-1)
        logits, index = _broadcast(self.logits, index)
        return logits.gather(-1, index[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        logits = self.logits.clamp(min=finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return listed(arange(self._num_events, device=self._param.device), self, expand)


def _broadcast(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    lead = broadcast_shapes(logits.shape[:-1], index.shape[:-1])
    return logits.expand((*lead, logits.shape[-1])), index.expand((*lead, 1))


class OneHotCategorical(Distribution):
    """One-hot vectors (K,) of the classes that a `Categorical` draws."""

    has_enumerate_support = True
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.one_hot

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    probs: Tensor = same_as("_categorical.probs")
    logits: Tensor = same_as("_categorical.logits")
    param_shape: Any = same_as("_categorical.param_shape")
    mean: Tensor = same_as("probs")

    @property
    def mode(self) -> Tensor:
        return F.one_hot(self.probs.argmax(-1), self.event_shape[0]).to(self.probs.dtype)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = self._categorical.sample(sample_shape)
        return F.one_hot(drawn, self.event_shape[0]).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return self._categorical.log_prob(value.max(-1)[1])

    def entropy(self) -> Tensor:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        classes = self.event_shape[0]
        values = eye(classes, dtype=self.probs.dtype, device=self.probs.device)
        values = values.reshape((classes, *(1,) * len(self.batch_shape), classes))
        return values.expand((classes, *self.batch_shape, classes)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """`OneHotCategorical` whose draws have the gradient of `probs` (Bengio et al. 2013)."""

    has_rsample = True

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = self.sample(sample_shape)
        return drawn + (self.probs - self.probs.detach())


class Multinomial(Distribution):
    """The counts (K,) of each of K classes in `total_count` draws of a `Categorical`."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    total_count: int

    def __init__(
        self,
        total_count: int = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int) or total_count < 0:
            expected = "total_count, one int of at least 0 for the whole batch"
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
