"""The static layout: one buffer per layer and stored part, (B, H, N, w), token n in slot n.

Row b holds its tokens in slots 0 .. lengths[b] - 1, whatever the other rows hold. New tokens are
written behind them; a row that brings fewer than the others writes its padding too, and what comes
next overwrites it. Since a query attends only to slots up to its own, it sees neither padding nor
what a slot held before: so forgetting tokens costs nothing.

Every layer keeps every token, those with a sliding window too (which attend to a part of them).
The buffers double when they are full, so that a token costs, over time, no more than one copy of
itself; with the capacity given at the start they never move.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradient
from gradient.kv_cache.layout import (
    Batch,
    Buffers,
    KeyValues,
    KVCacheSpec,
    Layout,
    Slots,
    attention_mask,
    index_of,
    round_up,
)
from gradient.tensor import Tensor


class Static(Buffers, Layout):
    """Buffers of N slots for every row, which grow by doubling.

    Attributes:
        capacity: N.
        keys, values: each layer's parts (B, H, N, w), by its number.
    """

    axis = 2

    def __init__(self, spec: KVCacheSpec, batch_size: int, capacity: int = 0) -> None:
        self.spec = spec
        self.batch_size = batch_size
        self._allocate(round_up(capacity, spec.block))

    def allocate_slots(self, batch: Batch) -> StaticSlots:
        """See `Layout.allocate_slots`."""
        extent = batch.tokens if batch.fresh else round_up(batch.end, self.spec.block)
        self._reserve(extent)
        return StaticSlots(self, batch, extent)

    def select(self, rows: Sequence[int], counts: Sequence[int]) -> Static:
        """See `Layout.select`. What the rows hold is copied."""
        chosen = Static(self.spec, len(rows), self.capacity)
        index, held = index_of(rows, self.spec.device), max(counts, default=0)
        for name in ("keys", "values"):
            for layer, parts in getattr(chosen, name).items():
                for new, old in zip(parts, getattr(self, name)[layer], strict=True):
                    new[:, :, :held] = old[:, :, :held][index]
        return chosen

    def join(self, others: Sequence[Static], counts: Sequence[Sequence[int]]) -> Static:
        """See `Layout.join`. What the rows hold is copied."""
        layouts = [self, *others]
        capacity = max(layout.capacity for layout in layouts)
        joined = Static(self.spec, sum(layout.batch_size for layout in layouts), capacity)
        first = 0
        for layout, held in zip(layouts, counts, strict=True):
            rows = slice(first, first + layout.batch_size)
            for name in ("keys", "values"):
                for layer, parts in getattr(joined, name).items():
                    for new, old in zip(parts, getattr(layout, name)[layer], strict=True):
                        new[rows, :, : max(held)] = old[:, :, : max(held)]
            first = rows.stop
        return joined

    def rewind(self, counts: Sequence[int]) -> None:
        """Do nothing: what lies beyond a row's length is not seen, and overwritten."""

    def read(self, layer: int, row: int, start: int, stop: int) -> KeyValues:
        """See `Layout.read`."""
        return KeyValues(
            *(
                tuple(part[row, :, start:stop] for part in buffers[layer])
                for buffers in (self.keys, self.values)
            )
        )

    def _shape(self, heads: int, capacity: int) -> tuple[int, ...]:
        return self.batch_size, heads, capacity

    def _reserve(self, slots: int) -> None:
        """Let the buffers have at least `slots` slots, at least doubling them if they grow."""
        if slots <= self.capacity:
            return
        self._grow(round_up(max(slots, 2 * self.capacity), self.spec.block))


def make_layouts(spec: KVCacheSpec, batch_size: int, *, capacity: int = 0) -> list[Layout]:
    """Return the layouts of a static cache: one for all layers."""
    return [Static(spec, batch_size, capacity)]


class StaticSlots(Slots):
    """The slots of one batch in static buffers."""

    def __init__(self, layout: Static, batch: Batch, extent: int) -> None:
        self.layout = layout
        self.batch = batch
        self.extent = extent  # S: slots that are read, at least those in use
        # Single tokens of rows of one length, which read no slot too many, see all they read.
        self.unmasked = batch.tokens == 1 and batch.equal_lengths and layout.spec.block == 1
        self._masks: dict[int | None, Tensor] = {}

    def update(self, layer: int, new: KeyValues, window: int | None) -> KeyValues:
        """See `Slots.update`."""
        buffers = KeyValues(self.layout.keys[layer], self.layout.values[layer])
        for stored, added in zip(buffers, new, strict=True):
            for buffer, part in zip(stored, added, strict=True):
                self._write(buffer, part)
        if self.batch.fresh:
            return new
        # A single token of even rows needs no mask for its window either: the slots are cut.
        start = max(0, self.extent - window) if self.unmasked and window is not None else 0
        return KeyValues(
            *(tuple(part[:, :, start : self.extent] for part in parts) for parts in buffers)
        )

    def mask(self, window: int | None) -> Tensor | None:
        """See `Slots.mask`."""
        if self.unmasked:
            return None
        if window is not None and window >= self.extent:
            window = None
        if window not in self._masks:
            key_positions = gradient.arange(self.extent, device=self.layout.spec.device)
            self._masks[window] = attention_mask(key_positions, self.batch.positions, window)
        return self._masks[window]

    def _write(self, buffer: Tensor, part: Tensor) -> None:
        if self.batch.fresh:
            buffer[:, :, : self.batch.tokens] = part
        else:
            # Indices on both sides of a slice: the indexed part has shape (B, T, H, w).
            buffer[self.batch.rows, :, self.batch.positions] = part.transpose(1, 2)
