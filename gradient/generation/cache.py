"""The key-value cache: what attention needs of tokens seen before, so that each is computed once.

Dimensions:
    B  rows (sequences)     T  new tokens          S  tokens attended to
    H  key-value heads      D  size of a head      N  capacity, columns of the buffers

Row b holds its tokens in columns 0 .. lengths[b] - 1, whatever the other rows hold. New tokens are
written behind them; a row that brings fewer than the others (its padding stands on the right)
writes its padding too, and what comes next overwrites it. Since a query attends only to columns
up to its own, it sees neither padding nor what a column held before.

The lengths are an array on the device, and the host keeps a copy of the numbers (it knows them
without asking the device) only to bound how much of the buffers a step reads. A step of single
tokens is a fixed list of operations but for that bound, and `block` fixes it too: with it a step
reads whole blocks and masks what is not there yet, so that one recorded step serves all steps of a
block, whatever the rows' lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError, AutogradError
from gradient.models.causal_lm import CausalLM, KVShape
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
        shapes: Sequence[KVShape | tuple[int, int]],
        batch_size: int,
        *,
        capacity: int = 0,
        limit: int | None = None,
        block: int = 1,
        dtype: gradient.DType | None = None,
        device: Any = None,
    ) -> None:
        """Args:
        shapes: (heads, head size) of each layer.
        capacity: columns to reserve; the buffers grow when more are needed.
        limit: the model's context length, which no row may exceed.
        block: attend to a multiple of so many columns. 1 reads least; more lets a decoding step
            be recorded once and replayed for `block` steps.
        """
        if block < 1:
            raise ArgumentError(f"cache: block must be at least 1 column, got {block}")
        self.shapes = [KVShape(*shape) for shape in shapes]
        self.limit = limit
        self.block = block
        self.dtype = dtype
        self.device = device
        self.counts = [0] * batch_size
        self.lengths = gradient.zeros(batch_size, dtype=gradient.int64, device=device)
        self.capacity = self._whole_blocks(capacity)
        self.keys = [self._buffer(heads, size) for heads, size, _ in self.shapes]
        self.values = [self._buffer(heads, size) for heads, size, _ in self.shapes]

    @classmethod
    def for_model(
        cls, model: CausalLM, batch_size: int, capacity: int = 0, *, block: int = 1
    ) -> KVCache:
        """Return an empty cache of the right shape, dtype and device for `model`."""
        return cls(
            model.kv_shapes,
            batch_size,
            capacity=capacity,
            limit=model.context_length,
            block=block,
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
        extent = self._whole_blocks(held + tokens) if held else tokens
        self._reserve(extent)
        return Step(self, tokens, new, end=held + tokens, extent=extent)

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

    def _whole_blocks(self, columns: int) -> int:
        return -(-columns // self.block) * self.block

    def _buffer(self, heads: int, size: int) -> Tensor:
        # Zeros, not empty: attention multiplies columns that it masks by 0, and 0 * nan is nan.
        shape = (len(self.counts), heads, self.capacity, size)
        return gradient.zeros(shape, dtype=self.dtype, device=self.device)

    def _reserve(self, columns: int) -> None:
        """Let the buffers have at least `columns` columns, at least doubling them if they grow."""
        if columns <= self.capacity:
            return
        held = self.capacity
        self.capacity = self._whole_blocks(max(columns, 2 * held))
        for buffers in (self.keys, self.values):
            for layer, (heads, size, _) in enumerate(self.shapes):
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
    end: int  # columns in use after this step
    extent: int  # S, columns that are read: at least `end`

    def __post_init__(self) -> None:
        device = self.cache.device
        # No mask is needed by a fresh cache (causality is enough), nor by single tokens of rows of
        # one length that read no column too many.
        even = len(set(self.cache.counts)) == 1 and self.cache.block == 1
        self.fresh = self.end == self.tokens
        self.masked = not self.fresh and not (self.tokens == 1 and even)
        self._masks: dict[int | None, Tensor] = {}
        columns = gradient.arange(self.tokens, device=device)
        self.slots = self.cache.lengths.unsqueeze(1) + columns  # (B, T)
        self.rows = gradient.arange(self.cache.batch_size, device=device).unsqueeze(1)  # (B, 1)

    @cached_property
    def positions(self) -> Tensor:
        """(B, T): a token's position in its row; padding beyond the context gets its last one."""
        limit = self.cache.limit
        if limit is None or self.end <= limit:
            return self.slots
        return self.slots.clamp(max=limit - 1)

    def mask(self, window: int | None) -> Tensor | None:
        """(B, 1, T, S): a query sees the columns up to its own, `window` of them at most."""
        if window is not None and window >= self.extent:
            window = None
        if not self.masked and window is None:
            return None
        if window not in self._masks:
            columns = gradient.arange(self.extent, device=self.cache.device)
            slots = self.slots.unsqueeze(-1)  # (B, T, 1)
            mask = columns <= slots
            if window is not None:
                mask = mask & (columns > slots - window)
            self._masks[window] = mask.unsqueeze(1)
        return self._masks[window]

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Store a layer's new keys and values, and attend to all: see `Past.attend`."""
        if softcap is not None:
            raise NotImplementedError("softcap")  # comes with the attention op's own option
        key, value = self.append(layer, key, value)
        mask = self.mask(window)
        return F.scaled_dot_product_attention(
            query,
            key.to(query.dtype),
            value.to(query.dtype),
            attn_mask=mask,
            is_causal=mask is None and self.fresh and self.tokens > 1,
            scale=scale,
            enable_gqa=True,
        )

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values (B, H, T, D); return all to attend to (B, H, S, D)."""
        if key.requires_grad or value.requires_grad:
            raise AutogradError(
                "the key-value cache keeps no gradients: call the model under gradient.no_grad() "
                "or gradient.inference_mode(), or, to train, without a cache"
            )
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        # Indices on both sides of a slice: the indexed part has shape (B, T, H, D).
        keys[self.rows, :, self.slots] = key.transpose(1, 2).to(keys.dtype)
        values[self.rows, :, self.slots] = value.transpose(1, 2).to(values.dtype)
        if self.fresh:
            return key, value
        return keys[:, :, : self.extent], values[:, :, : self.extent]

    def commit(self) -> None:
        """Count the tokens as held. Until then a step that failed has changed nothing."""
        cache, new = self.cache, self.new
        cache.counts = [held + more for held, more in zip(cache.counts, new, strict=True)]
        uneven = len(set(new)) > 1
        # In place: a recorded step finds the lengths where they were when it was recorded.
        cache.lengths += gradient.tensor(new, device=cache.device) if uneven else new[0]
