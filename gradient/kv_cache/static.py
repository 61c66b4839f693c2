"""The static layout: one buffer per layer and stored part, (B, H, N, w), token n in slot n.

Row b holds its tokens in slots 0 .. lengths[b] - 1, independently of other rows. New tokens are
written after them. A row with fewer new tokens than others also writes its padding, and the next
tokens overwrite it. A query attends only to slots up to its own, so it attends neither to padding
nor to old content of later slots. So removing tokens costs nothing.

Every layer keeps all tokens, even a layer with a sliding window (which attends to some of them).
Full buffers double their size, so that on average a token is copied at most once. If the needed
capacity is given at the start, the buffers never move.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradient.backends.options import SlotMap
from gradient.kv_cache.layout import (
    Batch,
    Buffers,
    KeyValues,
    KVCacheSpec,
    Layout,
    Slots,
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
        self.make_room(batch.tokens, batch.counts, batch.new_counts)
        return StaticSlots(self, batch, self.extent(batch.tokens, batch.counts))

    def make_room(self, tokens: int, counts: Sequence[int], new_counts: Sequence[int]) -> None:
        self._reserve(self.extent(tokens, counts))

    def extent(self, tokens: int, counts: Sequence[int]) -> int:
        """Return how many slots a pass reads: whole blocks."""
        return round_up(max(counts) + tokens, self.spec.block) if any(counts) else tokens

    @property
    def room(self) -> tuple[int, ...]:
        """Return the capacity."""
        return (self.capacity,)

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
        joined._copy_rows(layouts, [max(held) for held in counts])
        return joined

    def rewind(self, counts: Sequence[int]) -> None:
        """Do nothing: slots beyond a row's length are never read, and will be overwritten."""

    def read(self, layer: int, row: int, start: int, stop: int) -> KeyValues:
        return self._of_row(layer, row, slice(start, stop))

    def _shape(self, heads: int, capacity: int) -> tuple[int, ...]:
        return self.batch_size, heads, capacity

    def _reserve(self, slots: int) -> None:
        """Grow the buffers to at least `slots` slots, at least doubling them."""
        if slots <= self.capacity:
            return
        self._grow(round_up(max(slots, 2 * self.capacity), self.spec.block))


def make_layouts(spec: KVCacheSpec, batch_size: int, *, capacity: int = 0) -> list[Layout]:
    """Return the layouts of a static cache: one for all layers."""
    return [Static(spec, batch_size, capacity)]


class StaticSlots(Slots):
    """The slots of one batch in static buffers."""

    def __init__(self, layout: Static, batch: Batch, extent: int) -> None:
        """Args:
        extent: slots to read, at least those in use.
        """
        self.layout = layout
        self.batch = batch
        # Single tokens of rows of one length, which read no slot too many, see all they read.
        see_all = batch.tokens == 1 and batch.equal_lengths and layout.spec.block == 1
        self.map = (
            batch.fresh_map()
            if batch.fresh
            else SlotMap(batch.positions.array, extent, layout.capacity, {}, see_all=see_all)
        )

    def update(self, layer: int, new: KeyValues, window: int | None) -> KeyValues:
        buffers = KeyValues(self.layout.keys[layer], self.layout.values[layer])
        for stored, added in zip(buffers, new, strict=True):
            for buffer, part in zip(stored, added, strict=True):
                self._write(buffer, part)
        return new if self.batch.fresh else buffers

    def _write(self, buffer: Tensor, part: Tensor) -> None:
        if self.batch.fresh:
            buffer[:, :, : self.batch.tokens] = part
        else:
            # Indices on both sides of a slice: the indexed part has shape (B, T, H, w).
            buffer[self.batch.rows, :, self.batch.positions] = part.transpose(1, 2)
