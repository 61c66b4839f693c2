"""Draws of the Poisson and the binomial distribution, for any rate and count.

Small means by inversion: the smallest n whose cdf is above a uniform number (Devroye 1986,
section X.3.3). Large ones by transformed rejection (Hoermann 1993: PTRS in "The transformed
rejection method for generating Poisson random variables", BTRS in "The generation of binomial
random variates"), whose work does not depend on the mean. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable

from gradient.autograd import no_grad
from gradient.ops.special import lgamma
from gradient.random import Generator, rand
from gradient.tensor import Tensor
from gradient.tensor.arguments import anywhere
from gradient.tensor.joining import where

LARGE = 10.0
"""From this mean on, draws are by rejection, which is made for no smaller ones."""

ROUNDS = 400
"""More than inversion needs below that mean, or rejection, which accepts with probability 0.8."""


def poisson(rate: Tensor, generator: Generator | None = None) -> Tensor:
    """Return a draw for each rate (finite and at least 0), in its dtype and shape."""
    with no_grad():
        mean = rate.detach().double()
        small = _inverted(
            mean, (-mean.clamp(max=LARGE)).exp(), lambda term, n: term * mean / n, generator
        )
        if not anywhere(mean >= LARGE):
            return small.to(rate.dtype)
        lam = mean.clamp(min=LARGE)
        log_lam = lam.log()
        b = 0.931 + 2.53 * lam.sqrt()
        a = -0.059 + 0.02483 * b
        scale = (1.1239 + 1.1328 / (b - 3.4)).log()
        large = _rejected(
            a, b, lam + 0.43, 0.9277 - 3.6224 / (b - 2),
            lambda k: k * log_lam - lam - lgamma(k + 1) - scale, None, generator,
        )  # fmt: skip
        return where(mean >= LARGE, large, small).to(rate.dtype)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Return the number of successes in `count` trials of probability `prob`, both of one shape and
    dtype."""
    with no_grad():
        n = count.detach().double().floor().clamp(min=0)
        given = prob.detach().double().clamp(0, 1)
        p = where(given > 0.5, 1 - given, given)  # of the rarer outcome
        q, mean = 1 - p, n * p
        odds = p / q
        few = where(mean < LARGE, n, 0.0)
        small = _inverted(
            mean, (few * (-p).log1p()).exp(),
            lambda term, k: term * odds * (few - k + 1).clamp(min=0) / k, generator,
        )  # fmt: skip
        drawn = small
        if anywhere(mean >= LARGE):
            many = where(mean >= LARGE, n, 2 * LARGE)
            p, q = where(mean >= LARGE, p, 0.5), where(mean >= LARGE, q, 0.5)
            spread = (many * p * q).sqrt()
            b = 1.15 + 2.53 * spread
            a = -0.0873 + 0.0248 * b + 0.01 * p
            mode, log_odds = ((many + 1) * p).floor(), (p / q).log()
            peak = lgamma(mode + 1) + lgamma(many - mode + 1)
            scale = ((2.83 + 5.1 / b) * spread).log()
            large = _rejected(
                a, b, many * p + 0.5, 0.92 - 4.2 / b,
                lambda k: peak - lgamma(k + 1) - lgamma(many - k + 1)
                + (k - mode) * log_odds - scale, many, generator,
            )  # fmt: skip
            drawn = where(mean >= LARGE, large, small)
        return where(given > 0.5, n - drawn, drawn).to(prob.dtype)


def _inverted(
    mean: Tensor,
    first: Tensor,
    following: Callable[[Tensor, int], Tensor],
    generator: Generator | None,
) -> Tensor:
    """The smallest n for which the sum of probabilities up to n is above a uniform number; `first`
    is the probability of 0, `following(probability of n - 1, n)` that of n. 0 for large means."""
    u = rand(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
    total = term = first
    count = mean * 0
    for n in range(1, ROUNDS):
        beyond = (u >= total) & (mean < LARGE)
        if not anywhere(beyond):
            break
        count = count + beyond.to(count.dtype)
        term = following(term, n)
        total = total + term
        if not anywhere(term > 0):  # the rest is rounding error
            break
    return count


def _rejected(
    a: Tensor,
    b: Tensor,
    centre: Tensor,
    sure: Tensor,
    log_density: Callable[[Tensor], Tensor],
    most: Tensor | None,
    generator: Generator | None,
) -> Tensor:
    """Draws of the hat (2 a / (1/2 - |u|) + b) u + centre, until one is accepted for each."""
    result, waiting = centre.floor(), a == a
    for _ in range(ROUNDS):
        u, v = (
            rand(a.shape, dtype=a.dtype, device=a.device, generator=generator) for _ in range(2)
        )
        u = u - 0.5
        us = 0.5 - u.abs()
        k = ((2 * a / us + b) * u + centre).floor()
        inside = (k >= 0) & ((us >= 0.013) | (v <= us))
        if most is not None:
            inside = inside & (k <= most)
        kept = where(inside, k, result)
        likely = v.log() - (a / us**2 + b).log() <= log_density(kept)
        accepted = inside & (likely | ((us >= 0.07) & (v <= sure)))
        result = where(waiting & accepted, kept, result)
        waiting = waiting & ~accepted
        if not anywhere(waiting):
            break
    return result
