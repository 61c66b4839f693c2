"""Prefill: run the prompt through the model in chunks, without what the cache already holds.

A pass over T tokens at once needs memory for T rows of activations and, where attention is
composed, for T x S scores a head. Chunks bound both, whatever the prompt's length; and every chunk
but those in which a row ends is read for its keys and values alone (Agrawal et al. 2023, "Sarathi",
section 4.1: chunked prefills lose little, as a few hundred tokens fill the machine).
"""

from __future__ import annotations

from collections.abc import Sequence

import gradient
from gradient.errors import ArgumentError
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating
from gradient.tensor import Tensor

__all__ = ["prefill"]

#: Tokens of a row that go through the model at once. At 32 heads and 8,192 tokens of context the
#: scores of so many take half a gigabyte, and a matrix product gains little from more rows.
CHUNK = 512


@gradient.no_grad()
def prefill(
    model: CausalLM,
    cache: KVCache,
    prompts: Sequence[Sequence[int]],
    chunk: int | None = CHUNK,
) -> Tensor:
    """Run the rest of each row's prompt, which the cache lacks; return the logits after its last
    token.

    The logits are those of one pass over the whole, but for the order in which sums are taken. Rows
    that end in an earlier chunk bring nothing to the later ones.

    Args:
        cache: its rows hold the beginnings of the prompts, at least a token less than all.
        prompts: token ids of each row, from its very beginning.
        chunk: tokens of a row at once; None is all.

    Returns:
        Logits (B, V).

    Raises:
        ArgumentError: the rows differ in number, or one holds its whole prompt already: then there
            is nothing to compute logits from.
    """
    held = cache.counts
    if len(prompts) != len(held) or any(
        len(prompt) <= count for prompt, count in zip(prompts, held, strict=False)
    ):
        raise ArgumentError(
            f"prefill: expected {len(held)} prompts longer than what the rows hold, {held}, got "
            f"{[len(prompt) for prompt in prompts]} tokens"
        )
    rest = [list(prompt[count:]) for prompt, count in zip(prompts, held, strict=True)]
    longest = max(map(len, rest))
    if chunk is None or not model.supports_chunked_prefill(max(map(len, prompts))):
        chunk = longest
    logits: Tensor | None = None
    for start in range(0, longest, chunk):
        pieces = [row[start : start + chunk] for row in rest]
        last = feed(model, cache, pieces)  # (B, V)
        ends = [start < len(row) <= start + chunk for row in rest]
        if logits is None or all(ends):
            logits = last
        elif any(ends):
            here = gradient.tensor(ends, device=last.device).unsqueeze(1)
            logits = gradient.where(here, last, logits)
    assert logits is not None  # there is a prompt, and it is longer than what its row holds
    return logits


@gradient.no_grad()
def feed(model: CausalLM, cache: KVCache, pieces: Sequence[Sequence[int]]) -> Tensor:
    """Append tokens to each row in one pass; return the logits after each row's last, (B, V).

    A row that gets none has the logits of some other place.
    """
    lengths = [len(piece) for piece in pieces]
    T = max(lengths)
    # Padding is any valid token.
    ids = gradient.tensor(
        [[*piece, *[0] * (T - len(piece))] for piece in pieces],
        dtype=gradient.int64,
        device=model.device,
    )
    even = min(lengths) == T
    with evaluating(model):
        return model(ids, cache, lengths=None if even else lengths, last_only=True)[:, -1]
