"""What maps logits to logits: penalties, truncation of the distribution, constraints."""

from gradient.generation.logits.penalties import (
    bad_words,
    logit_bias,
    min_new_tokens,
    no_repeat_ngram,
    presence_and_frequency_penalty,
    repetition_penalty,
)
from gradient.generation.logits.processors import LogitsProcessor, Prefixes, compose
from gradient.generation.logits.truncation import min_p, temperature, top_k, top_p, typical_p

__all__ = [
    "LogitsProcessor",
    "Prefixes",
    "bad_words",
    "compose",
    "logit_bias",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram",
    "presence_and_frequency_penalty",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
]
