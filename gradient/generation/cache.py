"""The key-value cache: what attention needs of tokens seen before, so that each is computed once.

Dimensions:
    B  rows (sequences)     T  new tokens          S  tokens attended to
    H  key-value heads      D  size of a head      N  capacity, columns of the buffers

Row b holds its tokens in columns 0 .. lengths[b] - 1, whatever the other rows hold. New tokens are
written behind them; a row that brings fewer than the others (its padding stands on the right)
writes its padding too, and what comes next overwrites it. Since a query attends only to columns
up to its own, it sees neither padding nor what a column held before.

The lengths are an array on the device, and all that is computed depends on that array alone, so
that one recorded decoding step serves every step. The host keeps a copy of the numbers (it knows
them without asking the device), only to bound how much of the buffers a step reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gradient
from gradient.errors import ArgumentError, AutogradError
from gradient.models.causal_lm import CausalLM
from gradient.tensor import Tensor


class KVCache:
    """Keys and values of every layer in one growing buffer each, (B, H, N, D).

    Give it to a model's forward together with new tokens only:

        cache = KVCache.for_model(model, batch_size=1)
        logits = model(prompt, cache)       # (1, T, V)
        logits = model(next_token, cache)   # (1, 1, V)

    Attributes:
        lengths: (B,) int64 on the device: tokens held by each row.
        counts: the same numbers on the host.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        batch_size: int,
        *,
        capacity: int = 0,
        limit: int | None = None,
        dtype: gradient.DType | None = None,
        device: Any = None,
    ) -> None:
        """Args:
        shapes: (heads, head size) of each layer.
        capacity: columns to reserve; the buffers grow when more are needed.
        limit: the model's context length, which no row may exceed.
        """
        self.shapes = list(shapes)
        self.limit = limit
        self.dtype = dtype
        self.device = device
        self.counts = [0] * batch_size
        self.lengths = gradient.zeros(batch_size, dtype=gradient.int64, device=device)
        self.capacity = capacity
        self.keys = [self._buffer(heads, size) for heads, size in self.shapes]
        self.values = [self._buffer(heads, size) for heads, size in self.shapes]

    @classmethod
    def for_model(cls, model: CausalLM, batch_size: int, capacity: int = 0) -> KVCache:
        """Return an empty cache of the right shape, dtype and device for `model`."""
        return cls(
            model.kv_shapes,
            batch_size,
            capacity=capacity,
            limit=model.context_length,
            dtype=model.dtype,
            device=model.device,
        )

    @property
    def batch_size(self) -> int:
        """Return the number of rows."""
        return len(self.counts)

    def begin(self, tokens: int, lengths: Sequence[int] | None = None) -> Step:
        """Make room for `tokens` more columns, of which row b's first lengths[b] are real.

        Raises:
            ArgumentError: a row would exceed the model's context.
        """
        new = [tokens] * self.batch_size if lengths is None else list(lengths)
        if len(new) != self.batch_size:
            raise ArgumentError(
                f"cache: holds {self.batch_size} rows, got {len(new)} rows of tokens"
            )
        after = [held + more for held, more in zip(self.counts, new, strict=True)]
        if self.limit is not None and max(after) > self.limit:
            raise ArgumentError(
                f"{max(after)} tokens do not fit the model's context of {self.limit}: shorten the "
                f"text, or begin anew from its last part"
            )
        held = max(self.counts)
        self._reserve(held + tokens)
        return Step(self, tokens, new, extent=held + tokens)

    def select(self, rows: Sequence[int]) -> KVCache:
        """Return a cache of these rows, in this order; a row may come twice. Buffers are copied."""
        chosen = KVCache.__new__(KVCache)
        chosen.__dict__.update(self.__dict__)
        index = gradient.tensor(list(rows), dtype=gradient.int64, device=self.device)
        with gradient.no_grad():
            chosen.counts = [self.counts[row] for row in rows]
            chosen.lengths = self.lengths[index]
            chosen.keys = [buffer[index] for buffer in self.keys]
            chosen.values = [buffer[index] for buffer in self.values]
        return chosen

    def _buffer(self, heads: int, size: int) -> Tensor:
        # Zeros, not empty: attention multiplies columns that it masks by 0, and 0 * nan is nan.
        shape = (len(self.counts), heads, self.capacity, size)
        return gradient.zeros(shape, dtype=self.dtype, device=self.device)

    def _reserve(self, columns: int) -> None:
        """Let the buffers have at least `columns` columns, at least doubling them if they grow."""
        if columns <= self.capacity:
            return
        held, self.capacity = self.capacity, max(columns, 2 * self.capacity)
        for buffers in (self.keys, self.values):
            for layer, (heads, size) in enumerate(self.shapes):
                grown = self._buffer(heads, size)
                if held:
                    grown[:, :, :held] = buffers[layer]
                buffers[layer] = grown


@dataclass
class Step:
    """One forward pass over a `KVCache`: the `Past` that a model's layers see."""

    cache: KVCache
    tokens: int  # T, columns of the input
    new: list[int]  # real tokens of each row
    extent: int  # S, the columns that any query may attend to

    def __post_init__(self) -> None:
        device = self.cache.device
        # No mask is needed by a fresh cache (causality is enough) and by single tokens of rows of
        # one length.
        even = len(set(self.cache.counts)) == 1
        self.fresh = self.extent == self.tokens
        self.masked = not self.fresh and not (self.tokens == 1 and even)
        columns = gradient.arange(self.tokens, device=device)
        self.slots = self.cache.lengths.unsqueeze(1) + columns  # (B, T)
        self.rows = gradient.arange(self.cache.batch_size, device=device).unsqueeze(1)  # (B, 1)

    @cached_property
    def positions(self) -> Tensor:
        """(B, T): a token's position in its row; padding beyond the context gets its last one."""
        limit = self.cache.limit
        if limit is None or self.extent <= limit:
            return self.slots
        return self.slots.clamp(max=limit - 1)

    @cached_property
    def mask(self) -> Tensor | None:
        """(B, 1, T, S): column s is attended to by a query in column s or later."""
        if not self.masked:
            return None
        columns = gradient.arange(self.extent, device=self.cache.device)
        return (columns <= self.slots.unsqueeze(-1)).unsqueeze(1)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values (B, H, T, D); return all to attend to (B, H, S, D)."""
        if key.requires_grad or value.requires_grad:
            raise AutogradError(
                "the key-value cache keeps no gradients: call the model under gradient.no_grad() "
                "or gradient.inference_mode(), or, to train, without a cache"
            )
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        # Indices on both sides of a slice: the indexed part has shape (B, T, H, D).
        keys[self.rows, :, self.slots] = key.transpose(1, 2)
        values[self.rows, :, self.slots] = value.transpose(1, 2)
        if self.fresh:
            return key, value
        return keys[:, :, : self.extent], values[:, :, : self.extent]

    def commit(self) -> None:
        """Count the tokens as held. Until then a step that failed has changed nothing."""
        cache, new = self.cache, self.new
        cache.counts = [held + more for held, more in zip(cache.counts, new, strict=True)]
        uneven = len(set(new)) > 1
        cache.lengths = cache.lengths + (
            gradient.tensor(new, device=cache.device) if uneven else new[0]
        )
