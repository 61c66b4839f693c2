"""Perplexity: the mean negative log-likelihood of a text's tokens under a model.

A text longer than the context is read in windows. Each begins `stride` tokens after the previous
one, and scores only the tokens that no earlier window has scored: so every token is scored once,
with at least `context - stride` tokens before it (except at the text's beginning). A smaller stride
gives more context and costs more. Compare perplexities only at the same stride.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError
from gradient.generation.language_model import LanguageModel
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating

__all__ = ["Perplexity", "perplexity"]

#: Tokens of one pass through the model, whose logits must fit in memory.
CHUNK = 256
#: The longest default window.
LONGEST = 4096


@dataclass(frozen=True)
class Perplexity:
    """The likelihood of texts under a model.

    Attributes:
        tokens: the number of predicted tokens.
        nll: their mean negative log-likelihood, in nats.
        context: tokens in a window.
        stride: tokens between the beginnings of neighbouring windows.
    """

    tokens: int
    nll: float
    context: int
    stride: int

    @property
    def perplexity(self) -> float:
        """e^nll: the number of equally probable tokens with the same uncertainty."""
        return math.exp(self.nll) if self.nll < 700 else math.inf

    def bits_per_byte(self, size: int) -> float:
        """Bits per byte of texts of `size` bytes in total: comparable between tokenizers."""
        return self.tokens * self.nll / math.log(2) / size


@gradient.no_grad()
def perplexity(
    model: CausalLM | LanguageModel,
    texts: Sequence[Sequence[int] | str],
    *,
    context: int | None = None,
    stride: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Perplexity:
    """Score texts; all tokens of a text except the first (BOS, if it has one).

        perplexity(gradient.hub.load("tinyworld"), ["Once upon a time ..."]).perplexity

    Args:
        model: a `LanguageModel`, or the module alone.
        texts: token ids each, or, for a `LanguageModel`, text that its tokenizer encodes.
        context: tokens in a window; None: the model's context, at most 4096.
        stride: tokens between windows; None: half of the context.
        progress: called with the tokens scored since its last call.

    Raises:
        ArgumentError: no text has two tokens, or context and stride do not fit each other or the
            model; a token is not in the vocabulary; the model is an encoder, or lacks a tokenizer
            for text.
    """
    if isinstance(texts, str):
        raise ArgumentError("perplexity: expected a list of texts, got one: put it in a list")
    if isinstance(model, LanguageModel):
        encode = model.tokenizer.encode if any(isinstance(t, str) for t in texts) else None
        texts = [encode(t) if encode and isinstance(t, str) else t for t in texts]
        model = model.model
    if not isinstance(model, CausalLM):
        raise ArgumentError("perplexity: expected a model that predicts the next token (CausalLM)")
    context, stride = _sizes(model, context, stride)
    size = model.config.vocab_size
    ids: list[Sequence[int]] = []
    for number, text in enumerate(texts):
        if isinstance(text, str):
            raise ArgumentError(
                f"perplexity: text {number}: expected token ids, got {text!r:.60}; give the "
                "LanguageModel, which has a tokenizer, in place of its module"
            )
        ids.append(text)
        if wrong := [token for token in text if not 0 <= token < size]:
            raise ArgumentError(
                f"perplexity: text {number}: expected token ids from 0 to {size - 1}, got "
                f"{wrong[:5]} (is this the model's own tokenizer?)"
            )
    total, count = 0.0, 0
    with evaluating(model):
        for text in ids:
            for start, first, end in windows(len(text), context, stride):
                total += _window_nll(model, text[start:end], first - start)
                count += end - first
                if progress is not None:
                    progress(end - first)
    if not count:
        raise ArgumentError("perplexity: expected a text of at least two tokens")
    return Perplexity(count, total / count, context, stride)


def windows(length: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, first, end): the window's tokens, and the first of them that it scores.

    >>> list(windows(7, 4, 2))
    [(0, 1, 4), (2, 4, 6), (4, 6, 7)]
    """
    scored = 1
    for start in range(0, length, stride):
        end = min(start + context, length)
        if end > scored:
            yield start, scored, end
            scored = end
        if end == length:
            return


def _window_nll(model: CausalLM, tokens: Sequence[int], first: int) -> float:
    """Return the summed negative log-likelihood of tokens[first:], each given all before it."""
    ids = gradient.tensor([list(tokens)], dtype=gradient.int64, device=model.device)
    # The last token predicts nothing here. With a cache, the window is read in pieces.
    read = len(tokens) - 1
    cache = KVCache.for_model(model, 1, read)
    total = 0.0
    for start in range(0, read, CHUNK):
        end = min(start + CHUNK, read)
        if end < first:  # nothing of this piece is scored: no logits are needed
            model(ids[:, start:end], cache, last_only=True)
            continue
        logits = model(ids[:, start:end], cache)[0]  # (T, V)
        skipped = max(first - 1 - start, 0)
        targets = ids[0, start + 1 + skipped : end + 1]
        losses = F.cross_entropy(logits[skipped:].float(), targets, reduction="none")
        total += losses.double().sum().item()
    return total


def _sizes(model: CausalLM, context: int | None, stride: int | None) -> tuple[int, int]:
    limit = model.context_length
    if context is None:
        context = min(model.trained_length or LONGEST, LONGEST)
    stride = max(context // 2, 1) if stride is None else stride
    if limit is not None and context > limit:
        raise ArgumentError(f"context: {context} tokens exceed the model's context of {limit}")
    if context < 2 or not 1 <= stride < context:
        raise ArgumentError(
            f"perplexity: expected a context of at least 2 tokens and a stride from 1 to below it, "
            f"got context {context} and stride {stride}"
        )
    return context, stride
