"""Kullback-Leibler divergences between different families, and some similar ones.

Each is -H(p) - E_p[log q(x)]: the density of q determines the functions of x whose expectation
under p is needed. If q is 0 where p is not, the divergence is infinite.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.distributions.continuous import EULER, Cauchy, Exponential, Gumbel, Laplace, Uniform
from gradient.distributions.continuous_bernoulli import ContinuousBernoulli
from gradient.distributions.counting import Bernoulli, Binomial, Poisson
from gradient.distributions.distribution import Distribution
from gradient.distributions.gamma import Beta, Gamma
from gradient.distributions.kl import between_normals, register_kl
from gradient.distributions.matrices import Wishart
from gradient.distributions.multivariate_normal import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    half_log_det,
)
from gradient.distributions.normal import Normal
from gradient.distributions.of_simpler import Pareto
from gradient.linalg.solving import solve_triangular
from gradient.ops.elementwise import erf
from gradient.ops.special import digamma, lgamma, xlogy
from gradient.tensor import Tensor
from gradient.tensor.creation import full
from gradient.tensor.joining import where

__all__: list[str] = []


def _log(p: Any) -> Tensor:
    """E log x"""
    if isinstance(p, Beta):
        return digamma(p.concentration1) - digamma(p.concentration1 + p.concentration0)
    if isinstance(p, Exponential):
        return -EULER - p.rate.log()
    if isinstance(p, Pareto):
        return p.scale.log() + p.alpha.reciprocal()
    assert isinstance(p, Uniform)
    return (xlogy(p.high, p.high) - xlogy(p.low, p.low)) / (p.high - p.low) - 1


def _log_rest(p: Uniform) -> Tensor:
    """E log(1 - x)"""
    low, high = 1 - p.high, 1 - p.low
    return (xlogy(high, high) - xlogy(low, low)) / (high - low) - 1


def _shrunk(p: Any, scale: Tensor) -> Tensor:
    """E exp(-x / scale)"""
    if isinstance(p, Normal):
        return (0.5 * (p.scale / scale) ** 2 - p.loc / scale).exp()
    if isinstance(p, Uniform):
        return scale * ((-p.low / scale).exp() - (-p.high / scale).exp()) / (p.high - p.low)
    ratio = p.rate / (p.rate + 1 / scale)
    return ratio**p.concentration if isinstance(p, Gamma) else ratio


def _under_exponential(p: Any, q: Exponential) -> Tensor:
    return q.rate.log() - q.rate * p.mean


def _under_gamma(p: Any, q: Gamma) -> Tensor:
    b = q.concentration
    return b * q.rate.log() - lgamma(b) + (b - 1) * _log(p) - q.rate * p.mean


def _under_normal(p: Any, q: Normal) -> Tensor:
    squares = p.variance + (p.mean - q.loc) ** 2
    return -0.5 * (math.log(2 * math.pi) + squares / q.scale**2) - q.scale.log()


def _under_laplace(p: Normal, q: Laplace) -> Tensor:
    off = (p.loc - q.loc) / p.scale
    size = math.sqrt(2 / math.pi) * (-0.5 * off**2).exp() + off * erf(off * math.sqrt(0.5))
    return -(2 * q.scale).log() - size * p.scale / q.scale


def _under_gumbel(p: Any, q: Gumbel) -> Tensor:
    off = (p.mean - q.loc) / q.scale
    return -q.scale.log() - off - (q.loc / q.scale).exp() * _shrunk(p, q.scale)


def _under_beta(p: Uniform, q: Beta) -> Tensor:
    a, b = q.concentration1, q.concentration0
    norm = lgamma(a + b) - lgamma(a) - lgamma(b)
    return norm + (a - 1) * _log(p) + (b - 1) * _log_rest(p)


def _under_continuous_bernoulli(p: Any, q: ContinuousBernoulli) -> Tensor:
    return p.mean * q.logits + (-q.probs).log1p() + q._log_norm()


def _under_pareto(p: Any, q: Pareto) -> Tensor:
    return q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _log(p)


def _under_uniform(p: Any, q: Uniform) -> Tensor:
    return -(q.high - q.low).log()


def _always(p: Any, q: Any) -> Tensor | None:
    return None


def _wider(p: Uniform, q: Any) -> Tensor:
    """Where p exceeds the range from 0 to 1."""
    return (p.low < 0) | (p.high > 1)


def _not_within(p: Uniform, q: Any) -> Tensor:
    """Like `_wider`, but as in PyTorch, 0 and 1 themselves count as outside."""
    return (p.low <= 0) | (p.high >= 1)


def _negative(p: Uniform, q: Any) -> Tensor:
    return p.low < 0


def _not_covered(p: Any, q: Uniform) -> Tensor:
    return (q.low > 0) | (q.high < 1)


def _not_beyond(p: Any, q: Uniform) -> Tensor:
    """As in PyTorch, a q that ends at 0 or 1 counts as one that does not reach it."""
    return (q.low >= 0) | (q.high <= 1)


def _no_mean(p: Pareto, q: Any) -> Tensor:
    return p.alpha <= 1


def _no_variance(p: Pareto, q: Any) -> Tensor:
    return p.alpha <= 2


def _starts_earlier(p: Any, q: Pareto) -> Tensor:
    return (p.scale if isinstance(p, Pareto) else p.low) < q.scale


Expectation = Callable[[Any, Any], Tensor]
Condition = Callable[[Any, Any], "Tensor | None"]

CROSSED: list[tuple[type, type, Expectation, Condition]] = [
    (Beta, ContinuousBernoulli, _under_continuous_bernoulli, _always),
    (Beta, Exponential, _under_exponential, _always),
    (Beta, Gamma, _under_gamma, _always),
    (Beta, Normal, _under_normal, _always),
    (Beta, Uniform, _under_uniform, _not_covered),
    (ContinuousBernoulli, ContinuousBernoulli, _under_continuous_bernoulli, _always),
    (ContinuousBernoulli, Exponential, _under_exponential, _always),
    (ContinuousBernoulli, Normal, _under_normal, _always),
    (ContinuousBernoulli, Uniform, _under_uniform, _not_beyond),
    (Exponential, Gamma, _under_gamma, _always),
    (Exponential, Gumbel, _under_gumbel, _always),
    (Exponential, Normal, _under_normal, _always),
    (Gamma, Exponential, _under_exponential, _always),
    (Gamma, Gumbel, _under_gumbel, _always),
    (Gamma, Normal, _under_normal, _always),
    (Gumbel, Normal, _under_normal, _always),
    (Laplace, Normal, _under_normal, _always),
    (Normal, Gumbel, _under_gumbel, _always),
    (Normal, Laplace, _under_laplace, _always),
    (Pareto, Exponential, _under_exponential, _no_mean),
    (Pareto, Gamma, _under_gamma, _no_mean),
    (Pareto, Normal, _under_normal, _no_variance),
    (Pareto, Pareto, _under_pareto, _starts_earlier),
    (Uniform, Beta, _under_beta, _wider),
    (Uniform, ContinuousBernoulli, _under_continuous_bernoulli, _not_within),
    (Uniform, Exponential, _under_exponential, _negative),
    (Uniform, Gamma, _under_gamma, _negative),
    (Uniform, Gumbel, _under_gumbel, _always),
    (Uniform, Normal, _under_normal, _always),
    (Uniform, Pareto, _under_pareto, _starts_earlier),
]
"""p, q, E_p[log q(x)], and where the divergence is infinite."""

BOUNDED = (Beta, ContinuousBernoulli, Pareto, Uniform)
DISJOINT: list[tuple[type, type]] = [
    (Beta, Pareto),
    (ContinuousBernoulli, Pareto),
    *((Exponential, q) for q in BOUNDED),
    *((Gamma, q) for q in BOUNDED),
    *((p, q) for p in (Gumbel, Laplace, Normal) for q in (*BOUNDED, Exponential, Gamma)),
    *((Pareto, q) for q in (Beta, ContinuousBernoulli, Uniform)),
    (Poisson, Bernoulli),
    (Poisson, Binomial),
]
"""Those of which p reaches where q does not, whatever their parameters are."""


def _crossed(expectation: Expectation, condition: Condition, p: Distribution, q: Any) -> Tensor:
    beyond = condition(p, q)
    if beyond is not None and isinstance(p, Pareto):  # moments are infinite, their gradients NaN
        p = Pareto(p.scale, where(beyond, 3.0, p.alpha), validate_args=False)
    found = -p.entropy() - expectation(p, q)
    return found if beyond is None else where(beyond, math.inf, found)


def _infinite(p: Distribution, q: Distribution) -> Tensor:
    shape = np.broadcast_shapes(tuple(p.batch_shape), tuple(q.batch_shape))
    mean = p.mean
    return full(shape, math.inf, dtype=mean.dtype, device=mean.device)


for _p, _q, _expectation, _condition in CROSSED:
    register_kl(_p, _q)(functools.partial(_crossed, _expectation, _condition))
for _p, _q in DISJOINT:
    register_kl(_p, _q)(_infinite)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Bernoulli, q: Poisson) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    """Chyzak and Nielsen 2019."""
    far = (p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2
    return far.log() - (4 * p.scale * q.scale).log()


def _low_rank(p: Any, q: Any) -> Tensor:
    return between_normals(p, q, p.scale_tril, q.scale_tril)


register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)(_low_rank)
register_kl(LowRankMultivariateNormal, MultivariateNormal)(_low_rank)
register_kl(MultivariateNormal, LowRankMultivariateNormal)(_low_rank)


@register_kl(Wishart, Wishart)
def _wishart(p: Wishart, q: Wishart) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError("kl_divergence: the event shapes of two Wishart distributions differ")
    n, own, other = p.event_shape[-1], p.scale_tril, q.scale_tril
    trace = (solve_triangular(other, own, upper=False) ** 2).sum((-2, -1))
    sizes = q.df * (half_log_det(other) - half_log_det(own)) + p.df / 2 * (trace - n)
    norms = (q.df / 2).mvlgamma(n) - (p.df / 2).mvlgamma(n)
    return sizes + norms + (p.df - q.df) / 2 * p._slope()
