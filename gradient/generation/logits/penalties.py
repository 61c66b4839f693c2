"""Logits processors that look at the text so far: penalties, biases and forbidden sequences.

Dimensions:
    B  sequences     V  vocabulary     L  tokens of the longest sequence
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import gradient
from gradient.generation.logits.processors import LogitsProcessor, Prefixes
from gradient.tensor import Tensor

__all__ = [
    "bad_words",
    "frequency_penalty",
    "logit_bias",
    "min_new_tokens",
    "no_repeat_ngram",
    "presence_penalty",
    "repetition_penalty",
]


def repetition_penalty(penalty: float) -> LogitsProcessor:
    """Make tokens that are already in the text less likely (penalty > 1) or more likely (< 1).

    Positive logits are divided by it and negative ones multiplied (Keskar et al. 2019, "CTRL",
    section 4.1). The prompt counts, as in transformers.
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        B, V = logits.shape
        tokens = prefixes.tokens  # (B, L)
        # One column more than there are tokens takes the padding.
        seen = gradient.zeros((B, V + 1), dtype=gradient.bool, device=logits.device)
        places = gradient.where(tokens < 0, V, tokens)
        seen = seen.scatter(1, places, gradient.ones_like(places, dtype=gradient.bool))[:, :V]
        penalised = gradient.where(logits > 0, logits / penalty, logits * penalty)
        return gradient.where(seen, penalised, logits)

    return process


def frequency_penalty(penalty: float) -> LogitsProcessor:
    """Lower the logit of each generated token by `penalty` times how often it was generated.

    OpenAI's definition: logit[v] - count[v] * penalty. The prompt does not count. A negative
    penalty favours repetition.
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        if not any(prefixes.generated_counts):
            return logits
        return logits - penalty * _counts(logits, prefixes)

    return process


def presence_penalty(penalty: float) -> LogitsProcessor:
    """Lower the logit of each generated token by `penalty`, however often it was generated.

    OpenAI's definition: logit[v] - (count[v] > 0) * penalty. The prompt does not count.
    """

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        if not any(prefixes.generated_counts):
            return logits
        return logits - penalty * (_counts(logits, prefixes) > 0)

    return process


def _counts(logits: Tensor, prefixes: Prefixes) -> Tensor:
    """Return how often each token was generated, (B, V)."""
    B, V = logits.shape
    tokens = prefixes.tokens  # (B, L)
    device = logits.device
    starts = gradient.tensor(prefixes.prompt_lengths, device=device).unsqueeze(1)  # (B, 1)
    of_prompt = gradient.arange(tokens.shape[1], device=device) < starts  # (B, L)
    # One column more than there are tokens takes the prompt and the padding.
    places = gradient.where(of_prompt | (tokens < 0), V, tokens)
    counts = gradient.zeros((B, V + 1), device=device)
    return counts.scatter_add(1, places, gradient.ones_like(places, dtype=counts.dtype))[:, :V]


def logit_bias(bias: Mapping[int, float]) -> LogitsProcessor:
    """Add to the logits of some tokens, {token id: value}; -inf forbids a token."""
    ids, values = list(bias), [float(value) for value in bias.values()]

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        added = gradient.zeros(logits.shape[1], device=logits.device)
        added[ids] = gradient.tensor(values, device=logits.device)
        return logits + added

    return process


def no_repeat_ngram(size: int) -> LogitsProcessor:
    """Forbid tokens that would repeat an n-gram of `size` tokens of the prompt or the new text.

    (Paulus et al. 2017, "A Deep Reinforced Model for Abstractive Summarization", section 2.5.)
    """

    def forbidden(ids: Sequence[int]) -> Iterable[int]:
        if size == 1:
            return set(ids)
        last = ids[len(ids) - size + 1 :]
        first, ends = last[0], len(ids) - size + 1
        return {
            ids[at + size - 1]
            for at in range(ends)
            if ids[at] == first and ids[at : at + size - 1] == last
        }

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return forbid(logits, [forbidden(ids) if len(ids) >= size else () for ids in prefixes.ids])

    return process


def bad_words(sequences: Sequence[Sequence[int]]) -> LogitsProcessor:
    """Forbid token sequences: the last token of one, where the text ends in all before it."""
    words = [list(sequence) for sequence in sequences]

    def forbidden(ids: Sequence[int]) -> list[int]:
        return [word[-1] for word in words if _ends_with(ids, word[:-1])]

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return forbid(logits, [forbidden(ids) for ids in prefixes.ids])

    return process


def _ends_with(ids: Sequence[int], end: list[int]) -> bool:
    return list(ids[max(0, len(ids) - len(end)) :]) == end


def min_new_tokens(count: int, eos_ids: Iterable[int]) -> LogitsProcessor:
    """Forbid the end of the text before `count` tokens were generated."""
    ends = sorted(eos_ids)

    def process(logits: Tensor, prefixes: Prefixes) -> Tensor:
        return forbid(logits, [ends if n < count else () for n in prefixes.generated_counts])

    return process


def forbid(logits: Tensor, tokens: Sequence[Iterable[int]]) -> Tensor:
    """Return `logits` with -inf at these tokens of each row."""
    places = [(row, token) for row, some in enumerate(tokens) for token in some]
    if not places:
        return logits
    rows, columns = zip(*places, strict=True)
    changed = logits.clone()
    changed[list(rows), list(columns)] = -math.inf
    return changed
