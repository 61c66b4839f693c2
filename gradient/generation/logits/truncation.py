"""Logits processors that shape the distribution to draw from: temperature, and the tail cut off.

Dimensions:
    B  sequences     V  vocabulary
"""

from __future__ import annotations

import math

import gradient
import gradient.functional as F
from gradient.generation.logits.processors import LogitsProcessor, Prefixes, UniformDraw
from gradient.tensor import Tensor

__all__ = [
    "epsilon_cutoff",
    "eta_cutoff",
    "min_p",
    "temperature",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical_p",
    "xtc",
]

#: How many tokens are looked at before all are.
HEAD = 1024


def temperature(value: float) -> LogitsProcessor:
    """Divide logits by `value`.

    Below 1e-6 nothing but the likeliest token is ever drawn, and quotients would overflow.
    """
    divisor = max(value, 1e-6)
    return lambda logits, prefixes: logits / divisor


def top_k(k: int) -> LogitsProcessor:
    """Forbid all but the k likeliest tokens (and those that equal the k-th)."""

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        if k >= logits.shape[-1]:
            return logits
        kth = logits.topk(k, dim=-1).values[:, -1:]
        return logits.masked_fill(logits < kth, -math.inf)

    return process


def top_n_sigma(n: float) -> LogitsProcessor:
    """Forbid tokens whose logit is more than n standard deviations below the greatest.

    What is kept does not depend on the temperature (Tang et al. 2024, "Top-n sigma: Not All Logits
    Are You Need", arXiv:2411.07641, section 3). Tokens that are forbidden already do not count.
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        possible = logits > -math.inf
        count = possible.sum(dim=-1, keepdim=True).clamp(min=1)
        mean = gradient.where(possible, logits, 0.0).sum(dim=-1, keepdim=True) / count
        squares = gradient.where(possible, logits - mean, 0.0) ** 2
        sigma = (squares.sum(dim=-1, keepdim=True) / count).sqrt()
        floor = logits.amax(dim=-1, keepdim=True) - n * sigma
        return logits.masked_fill(logits < floor, -math.inf)

    return process


def top_p(p: float) -> LogitsProcessor:
    """Forbid all but the fewest likeliest tokens whose probabilities sum to at least p.

    (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.)
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return _fewest(logits, logits, p)

    return process


def min_p(p: float) -> LogitsProcessor:
    """Forbid tokens less than p times as probable as the likeliest (Nguyen et al. 2024).

    At 0 none is forbidden.
    """
    log_p = math.log(p) if p > 0 else -math.inf

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        floor = logits.amax(dim=-1, keepdim=True) + log_p
        return logits.masked_fill(logits < floor, -math.inf)

    return process


def typical_p(p: float) -> LogitsProcessor:
    """Forbid all but the fewest most typical tokens whose probabilities sum to at least p.

    A token is typical if its information, -log q, is close to the distribution's entropy: neither
    too likely nor too unlikely (Meister et al. 2022, "Locally Typical Sampling", section 4).
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        information, _, entropy = _information(logits)
        return _fewest(logits, -(information - entropy).abs(), p)

    return process


def epsilon_cutoff(epsilon: float) -> LogitsProcessor:
    """Forbid tokens less probable than epsilon; the likeliest always stays.

    (Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", section 3.)
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return _probable(logits, F.softmax(logits, dim=-1), epsilon)

    return process


def eta_cutoff(epsilon: float) -> LogitsProcessor:
    """Forbid tokens less probable than eta, the less of epsilon and sqrt(epsilon) exp(-entropy).

    So the cutoff is lower where the distribution is flat; the likeliest always stays (Hewitt et
    al. 2022, "Truncation Sampling as Language Model Desmoothing", section 4).
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        _, probabilities, entropy = _information(logits)
        eta = (math.sqrt(epsilon) * gradient.exp(-entropy)).clamp(max=epsilon)
        return _probable(logits, probabilities, eta)

    return process


def xtc(probability: float, xtc_threshold: float, uniform: UniformDraw) -> LogitsProcessor:
    """Now and then, forbid all tokens of a probability above the threshold but the least of them.

    "Exclude top choices" (p-e-w 2024, text-generation-webui, pull request 6335): where several
    tokens would do, one that is not the usual is taken. `probability` says how often.
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        top = F.softmax(logits, dim=-1) >= xtc_threshold
        least = gradient.where(top, logits, math.inf).amin(dim=-1, keepdim=True)
        now = (uniform(prefixes, logits.device) < probability).unsqueeze(1)
        return logits.masked_fill(top & (logits > least) & now, -math.inf)

    return process


def _information(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each token's -log q and q, (B, V), and the entropy, (B, 1)."""
    information = -F.log_softmax(logits, dim=-1)  # inf for a forbidden token
    probabilities = gradient.exp(-information)
    terms = gradient.where(probabilities > 0, information * probabilities, 0.0)
    return information, probabilities, terms.sum(dim=-1, keepdim=True)


def _probable(logits: Tensor, probabilities: Tensor, least: float | Tensor) -> Tensor:
    """Forbid tokens of probabilities below `least`, but for the likeliest."""
    likeliest = logits == logits.amax(dim=-1, keepdim=True)
    return logits.masked_fill((probabilities < least) & ~likeliest, -math.inf)


def _fewest(logits: Tensor, keys: Tensor, p: float) -> Tensor:
    """Forbid all but the first tokens, those of the greatest keys, whose probabilities sum to p."""
    V = logits.shape[-1]
    probabilities = F.softmax(logits, dim=-1)

    def keep(order: Tensor) -> tuple[Tensor, Tensor]:
        ordered = probabilities.gather(1, order)
        sums = ordered.cumsum(dim=-1)
        # What stands before a token sums to less than p: so the first always stays.
        kept = logits.gather(1, order).masked_fill(sums - ordered >= p, -math.inf)
        return gradient.full_like(logits, -math.inf).scatter(1, order, kept), sums[:, -1]

    # Sorting a large vocabulary takes longer than a small model's whole step, and hardly ever are
    # more than a few tokens kept: so look at the first ones, and at all if they do not reach p. (A
    # device would have to be waited for to know, which takes longer than it sorts.)
    if V > 4 * HEAD and not logits.backend.reads_wait:
        result, sums = keep(keys.topk(HEAD, dim=-1).indices)
        if bool((sums >= p).all()):
            return result
    return keep(keys.argsort(dim=-1, descending=True))[0]
