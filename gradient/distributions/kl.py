"""Kullback-Leibler divergences: E_p[log p(x) - log q(x)], if there is a formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from gradient import functional as F
from gradient.distributions.categorical import Categorical, OneHotCategorical
from gradient.distributions.continuous import EULER, Exponential, Gumbel, Laplace, Uniform
from gradient.distributions.counting import Bernoulli, Binomial, Geometric, Poisson
from gradient.distributions.distribution import Distribution, sum_rightmost
from gradient.distributions.gamma import Beta, Dirichlet, Gamma
from gradient.distributions.multivariate_normal import MultivariateNormal, half_log_det, mahalanobis
from gradient.distributions.normal import Normal
from gradient.distributions.of_simpler import HalfNormal
from gradient.distributions.transformed import Independent, TransformedDistribution
from gradient.linalg.solving import solve_triangular
from gradient.ops.special import digamma, lgamma
from gradient.tensor import Tensor
from gradient.tensor.joining import where

__all__ = ["kl_divergence", "register_kl"]

Formula = TypeVar("Formula", bound=Callable[..., Tensor])
FORMULAS: dict[tuple[type, type], Callable[..., Tensor]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Formula], Formula]:
    """Register a function (p, q) as the formula for two classes and their subclasses."""

    def register(function: Formula) -> Formula:
        FORMULAS[type_p, type_q] = function
        return function

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Return KL(p || q), of the batch shape.

    Raises:
        NotImplementedError: there is no formula for these distributions; `register_kl` adds one.
    """
    nearest: tuple[tuple[int, int], Callable[..., Tensor]] | None = None
    for (type_p, type_q), function in FORMULAS.items():
        if isinstance(p, type_p) and isinstance(q, type_q):
            steps = (type(p).__mro__.index(type_p), type(q).__mro__.index(type_q))
            if nearest is None or steps < nearest[0]:
                nearest = steps, function
    if nearest is None:
        raise NotImplementedError(
            f"kl_divergence: no formula for {type(p).__name__} and {type(q).__name__}; "
            "register_kl adds one, or average p.log_prob(x) - q.log_prob(x) over draws of p"
        )
    return nearest[1](p, q)


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    return between_normals(p, q, p._unbroadcasted_scale_tril, q._unbroadcasted_scale_tril)


def between_normals(p: Any, q: Any, own: Tensor, other: Tensor) -> Tensor:
    """For two normal distributions of vectors, given the Cholesky factors of their covariances."""
    if p.event_shape != q.event_shape:
        raise ValueError("kl_divergence: the event shapes of two normal distributions differ")
    trace = (solve_triangular(other, own, upper=False) ** 2).sum((-2, -1))
    distance = mahalanobis(other, q.loc - p.loc)
    return half_log_det(other) - half_log_det(own) + 0.5 * (trace + distance - p.event_shape[0])


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    # log(1 - sigmoid(x)) = -softplus(x)
    ones = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
    zeros = (1 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    ones = where((q.probs == 0) & (p.probs > 0), math.inf, where(p.probs == 0, 0.0, ones))
    zeros = where((q.probs == 1) & (p.probs < 1), math.inf, where(p.probs == 1, 0.0, zeros))
    return ones + zeros


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Tensor:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("kl_divergence: of Binomials with p.total_count < q.total_count")
    found = p.total_count * (
        p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    )
    return where(p.total_count > q.total_count, math.inf, found)


@register_kl(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = where((q.probs == 0).expand(terms.shape), math.inf, terms)
    return where((p.probs == 0).expand(terms.shape), 0.0, terms).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return _categorical(p._categorical, q._categorical)


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    return (
        b * (p.rate / q.rate).log()
        + lgamma(b)
        - lgamma(a)
        + (a - b) * digamma(a)
        + (q.rate - p.rate) * (a / p.rate)
    )


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    return _dirichlet(p._dirichlet, q._dirichlet)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    norms = lgamma(total) - lgamma(b.sum(-1)) - (lgamma(a) - lgamma(b)).sum(-1)
    return norms + ((a - b) * (digamma(a) - digamma(total).unsqueeze(-1))).sum(-1)


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    found = ((q.high - q.low) / (p.high - p.low)).log()
    return where((q.low > p.low) | (q.high < p.high), math.inf, found)


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Tensor:
    distance, ratio = (p.loc - q.loc).abs(), p.scale / q.scale
    return -ratio.log() + distance / q.scale + ratio * (-distance / p.scale).exp() - 1


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, off = p.scale / q.scale, (p.loc - q.loc) / q.scale
    moment = (lgamma(ratio + 1) - off).exp()
    return -ratio.log() + ratio * EULER + off + moment - (1 + EULER)


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Tensor:
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("kl_divergence: Independents of unequal dimensions")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("kl_divergence: of distributions with unequal transforms")
    extra: Any = len(p.event_shape) - len(p.base_dist.event_shape)
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), extra)
