"""Distributions made of others: transformed, with batch dimensions as events, and mixtures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

from gradient.autograd import no_grad
from gradient.distributions import constraints
from gradient.distributions.categorical import Categorical
from gradient.distributions.distribution import Distribution, same_as, sum_rightmost
from gradient.distributions.transforms.base import ComposeTransform, Transform, composed
from gradient.errors import ArgumentError, sentence
from gradient.tensor import Tensor

__all__ = ["Independent", "MixtureSameFamily", "TransformedDistribution"]


class Independent(Distribution):
    """A distribution whose last `reinterpreted_batch_ndims` batch dimensions belong to the event:
    `log_prob` is summed over them."""

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        batch = base_distribution.batch_shape
        if reinterpreted_batch_ndims > len(batch):
            expected = f"reinterpreted_batch_ndims of at most {len(batch)}"
            raise ArgumentError(sentence("Independent", expected, reinterpreted_batch_ndims))
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        cut = len(batch) - reinterpreted_batch_ndims
        events = (*batch[cut:], *base_distribution.event_shape)
        super().__init__(batch[:cut], events, validate_args)

    has_rsample: bool = same_as("base_dist.has_rsample")

    @property
    def support(self) -> Any:
        dims = self.reinterpreted_batch_ndims
        found = self.base_dist.support
        return constraints.independent(found, dims) if dims else found

    mean: Tensor = same_as("base_dist.mean")
    mode: Tensor = same_as("base_dist.mode")
    variance: Tensor = same_as("base_dist.variance")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """The outcomes of `base_distribution` after `transforms`, the first one applied first."""

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Iterable[Transform],
        validate_args: bool | None = None,
    ) -> None:
        self.transforms = composed(transforms)
        whole = ComposeTransform(self.transforms)
        base_shape = (*base_distribution.batch_shape, *base_distribution.event_shape)
        if len(base_shape) < whole.domain.event_dim:
            expected = f"a base of at least {whole.domain.event_dim} dimensions"
            raise ArgumentError(sentence("TransformedDistribution", expected, base_shape))
        wide = base_distribution.expand(
            whole.inverse_shape(whole.forward_shape(base_shape))[
                : len(base_shape) - len(base_distribution.event_shape)
            ]
        )
        wanted = whole.domain.event_dim - len(base_distribution.event_shape)
        self.base_dist = Independent(wide, wanted) if wanted > 0 else wide
        shape = whole.forward_shape((*self.base_dist.batch_shape, *self.base_dist.event_shape))
        change = whole.codomain.event_dim - whole.domain.event_dim
        dims = max(len(self.base_dist.event_shape) + change, whole.codomain.event_dim)
        cut = len(shape) - dims
        super().__init__(shape[:cut], shape[cut:], validate_args)

    has_rsample: bool = same_as("base_dist.has_rsample")

    @property
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        found = self.transforms[-1].codomain
        extra = len(self.event_shape) - found.event_dim
        return constraints.independent(found, extra) if extra > 0 else found

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        made = super().expand(batch_shape)
        whole = ComposeTransform(self.transforms)
        shape = whole.inverse_shape((*batch_shape, *self.event_shape))
        cut = len(shape) - len(self.base_dist.event_shape)
        made.base_dist = self.base_dist.expand(shape[:cut])
        return made

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return self._through(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._through(self.base_dist.rsample(sample_shape))

    def _through(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        dims, y = len(self.event_shape), value
        total: Any = 0.0
        for transform in reversed(self.transforms):
            x = transform._inv_call(y)
            dims += transform.domain.event_dim - transform.codomain.event_dim
            found = transform.log_abs_det_jacobian(x, y)
            total = total - sum_rightmost(found, dims - transform.domain.event_dim)
            y = x
        base = self.base_dist.log_prob(y)
        return total + sum_rightmost(base, dims - len(self.base_dist.event_shape))

    def _through_sign(self, probability: Tensor) -> Tensor:
        """p, or 1 - p if the composed transform is decreasing."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        if isinstance(sign, int) and sign == 1:
            return probability
        return sign * (probability - 0.5) + 0.5

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        for transform in reversed(self.transforms):
            value = transform._inv_call(value)
        return self._through_sign(self.base_dist.cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        return self._through(self.base_dist.icdf(self._through_sign(value)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_dist}, {self.transforms})"


class MixtureSameFamily(Distribution):
    """A mixture: the `Categorical` `mixture_distribution` chooses one of the K distributions along
    the last batch dimension of `component_distribution`."""

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

    @property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self.component_distribution.support)

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
