"""Logits processors that choose what to sample from: temperature, and truncation of the tail.

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

#: Tokens that `_fewest` sorts first, before it sorts the whole vocabulary.
HEAD = 1024


def temperature(value: float) -> LogitsProcessor:
    """Divide logits by `value`; see `divisor`."""
    by = divisor(value)
    return lambda logits, prefixes: logits / by


def divisor(temperature: float) -> float:
    """Return what a temperature divides logits by.

    Values below 1e-6 count as 1e-6: smaller ones would overflow, and only the most probable token
    is drawn anyway.
    """
    return max(temperature, 1e-6)


def top_k(k: int) -> LogitsProcessor:
    """Forbid all but the k most probable tokens, and those whose logits equal the k-th."""

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        if k >= logits.shape[-1]:
            return logits
        kth = logits.topk(k, dim=-1).values[:, -1:]
        return logits.masked_fill(logits < kth, -math.inf)

    return process


def top_n_sigma(n: float) -> LogitsProcessor:
    """Forbid tokens whose logit is more than n standard deviations below the largest.

    The choice does not depend on the temperature (Tang et al. 2024, "Top-n sigma: Not All Logits
    Are You Need", arXiv:2411.07641, section 3). Already forbidden tokens do not count.
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
    """Forbid all but the fewest most probable tokens whose probabilities sum to at least p.

    (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.)
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return _fewest(logits, logits, p)

    return process


def min_p(p: float) -> LogitsProcessor:
    """Forbid tokens whose probability is below p times that of the most probable token.

    (Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.) At 0 no token is
    forbidden.
    """
    log_p = math.log(p) if p > 0 else -math.inf

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        floor = logits.amax(dim=-1, keepdim=True) + log_p
        return logits.masked_fill(logits < floor, -math.inf)

    return process


def typical_p(p: float) -> LogitsProcessor:
    """Forbid all but the fewest most typical tokens whose probabilities sum to at least p.

    A token is typical if its information, -log q, is close to the entropy of the distribution
    (Meister et al. 2022, "Locally Typical Sampling", section 4).
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        information, _, entropy = _information(logits)
        return _fewest(logits, -(information - entropy).abs(), p)

    return process


def epsilon_cutoff(epsilon: float) -> LogitsProcessor:
    """Forbid tokens less probable than epsilon; the most probable token always stays.

    (Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", section 3.)
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return _probable(logits, F.softmax(logits, dim=-1), epsilon)

    return process


def eta_cutoff(epsilon: float) -> LogitsProcessor:
    """Forbid tokens less probable than eta = min(epsilon, sqrt(epsilon) * exp(-entropy)).

    So the cutoff is lower for a flat distribution. The most probable token always stays (Hewitt et
    al. 2022, "Truncation Sampling as Language Model Desmoothing", section 4).
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        _, probabilities, entropy = _information(logits)
        eta = (math.sqrt(epsilon) * gradient.exp(-entropy)).clamp(max=epsilon)
        return _probable(logits, probabilities, eta)

    return process


def xtc(probability: float, xtc_threshold: float, uniform: UniformDraw) -> LogitsProcessor:
    """With some probability, forbid the top choices: of the tokens with a probability of at least
    `xtc_threshold`, only the least probable stays.

    "Exclude top choices" (p-e-w 2024, text-generation-webui, pull request 6335): where several
    tokens are good, it prefers an unusual one. A single such token always stays.

    Args:
        probability: The probability of this at each step.
        xtc_threshold: A probability.
        uniform: Random numbers in [0, 1), one for each row.
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        top = F.softmax(logits, dim=-1) >= xtc_threshold
        least = gradient.where(top, logits, math.inf).amin(dim=-1, keepdim=True)
        now = (uniform(prefixes, logits.device) < probability).unsqueeze(1)
        return logits.masked_fill(top & (logits > least) & now, -math.inf)

    return process


def _information(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return -log q and q of each token's probability q, (B, V) each, and the entropy, (B, 1)."""
    information = -F.log_softmax(logits, dim=-1)  # inf for a forbidden token
    probabilities = gradient.exp(-information)
    terms = gradient.where(probabilities > 0, information * probabilities, 0.0)
    return information, probabilities, terms.sum(dim=-1, keepdim=True)


def _probable(logits: Tensor, probabilities: Tensor, least: float | Tensor) -> Tensor:
    """Forbid tokens with a probability below `least`, except the most probable token."""
    most_probable = logits == logits.amax(dim=-1, keepdim=True)
    return logits.masked_fill((probabilities < least) & ~most_probable, -math.inf)


def _fewest(logits: Tensor, keys: Tensor, p: float) -> Tensor:
    """Forbid all but the smallest set of tokens, in falling order of `keys` (B, V), whose
    probabilities sum to at least p."""
    V = logits.shape[-1]
    probabilities = F.softmax(logits, dim=-1)

    def keep(order: Tensor) -> tuple[Tensor, Tensor]:
        ordered = probabilities.gather(1, order)
        sums = ordered.cumsum(dim=-1)
        # A token stays if those before it sum to less than p: so the first always stays.
        kept = logits.gather(1, order).masked_fill(sums - ordered >= p, -math.inf)
        return gradient.full_like(logits, -math.inf).scatter(1, order, kept), sums[:, -1]

    # Sorting a large vocabulary takes longer than a whole step of a small model, and rarely are
    # more than a few tokens kept. So sort the first ones, and all only if these do not reach p.
    # (On a GPU the host would have to wait for that answer, which takes longer than sorting all.)
    if V > 4 * HEAD and not logits.backend.reads_wait:
        result, sums = keep(keys.topk(HEAD, dim=-1).indices)
        if bool((sums >= p).all()):
            return result
    return keep(keys.argsort(dim=-1, descending=True))[0]
