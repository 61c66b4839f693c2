"""Logits processors that shape the distribution to draw from: temperature, and the tail cut off.

Dimensions:
    B  sequences     V  vocabulary
"""

from __future__ import annotations

import math

import gradient
import gradient.functional as F
from gradient.generation.processors import LogitsProcessor, Prefixes
from gradient.tensor import Tensor


def temperature(value: float) -> LogitsProcessor:
    """Divide logits by `value`."""
    return lambda logits, prefixes: logits / value


def top_k(k: int) -> LogitsProcessor:
    """Forbid all but the k likeliest tokens (and those that equal the k-th)."""

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        if k >= logits.shape[-1]:
            return logits
        kth = logits.topk(k, dim=-1).values[:, -1:]
        return logits.masked_fill(logits < kth, -math.inf)

    return process


def top_p(p: float) -> LogitsProcessor:
    """Forbid all but the fewest likeliest tokens whose probabilities sum to at least p.

    (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.)
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        descending, order = logits.sort(dim=-1, descending=True)
        return _fewest(descending, order, p)

    return process


def min_p(p: float) -> LogitsProcessor:
    """Forbid tokens less than p times as probable as the likeliest (Nguyen et al. 2024)."""

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        floor = logits.amax(dim=-1, keepdim=True) + math.log(p)
        return logits.masked_fill(logits < floor, -math.inf)

    return process


def typical_p(p: float) -> LogitsProcessor:
    """Forbid all but the fewest most typical tokens whose probabilities sum to at least p.

    A token is typical if its information, -log q, is close to the distribution's entropy: neither
    too likely nor too unlikely (Meister et al. 2022, "Locally Typical Sampling", section 4).
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        information = -F.log_softmax(logits, dim=-1)  # inf for a forbidden token
        probabilities = gradient.exp(-information)
        terms = gradient.where(probabilities > 0, information * probabilities, 0.0)
        entropy = terms.sum(dim=-1, keepdim=True)
        order = (information - entropy).abs().argsort(dim=-1)
        return _fewest(logits.gather(1, order), order, p)

    return process


def _fewest(ordered: Tensor, order: Tensor, p: float) -> Tensor:
    """Forbid what follows the first tokens whose probabilities sum to p; put all back in place.

    Args:
        ordered: logits (B, V), in the order in which tokens are to be kept.
        order: (B, V), where each of them came from.
    """
    probabilities = F.softmax(ordered, dim=-1)
    # What stands before a token sums to less than p: so the first always stays.
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = ordered.masked_fill(before >= p, -math.inf)
    return gradient.empty_like(ordered).scatter(1, order, kept)
