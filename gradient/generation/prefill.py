"""Prefill: run the prompt through the model in chunks, except tokens that the cache already holds.

A pass over T tokens needs memory for T rows of activations and, if attention is composed, for T x S
scores per head. Chunks bound both for prompts of any length. Logits are computed only for chunks in
which a row ends. (Agrawal et al. 2023, "Sarathi", section 4.1: chunks cost little speed, as a few
hundred tokens use the machine fully.)
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

#: Tokens of a row that go through the model at once. Their scores take half a gigabyte at 32 heads
#: and a context of 8,192 tokens, and a matrix product gains little from more rows.
CHUNK = 512


@gradient.no_grad()
def prefill(
    model: CausalLM,
    cache: KVCache,
    prompts: Sequence[Sequence[int]],
    chunk: int | None = CHUNK,
) -> Tensor:
    """Run the tokens of each prompt that the cache does not hold yet; return the logits after the
    last token of each.

    The logits are those of one pass over the whole prompt, up to the order of sums. Rows that end
    in an earlier chunk take no part in later ones.

    Args:
        cache: its rows hold prefixes of the prompts, each at least one token shorter.
        prompts: all token ids of each row.
        chunk: tokens of a row at once; None: all.

    Returns:
        Logits (B, V).

    Raises:
        ArgumentError: the number of rows differs, or a row already holds its whole prompt, so that
            there is no token left to compute logits from.
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
    """Append tokens to each row in one pass; return the logits after each row's last one, (B, V).

    The logits of a row without new tokens are meaningless.
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
