"""The sliding layout: for layers with a window, a ring buffer slightly larger than the window.

Token n is in slot n mod R, where it replaces token n - R, which no later token attends to (Jiang et
al. 2023, "Mistral 7B", section 2, "Rolling buffer cache"). R is the window plus `max_rewind`. So a
layer has R slots for a text of any length.

Three details of the ring:

- Many new tokens at once would overwrite slots that the first of them still attend to. Up to
  max_rewind + 1 tokens are written before the ring is read. For more tokens (a chunk of a prompt)
  the queries get the earlier tokens, in order, followed by the new ones; then the last R of these
  are written.
- Padding must not overwrite real tokens. It is written to slot 0, which is never read; the ring
  begins at slot 1.
- A ring can be rewound by at least `max_rewind` tokens, and by any number as long as nothing has
  been overwritten. Beyond that `rewind` raises an error, and the text must be computed again. The
  same holds after an interrupted pass (Ctrl-C) of more than max_rewind + 1 tokens, which may have
  overwritten slots that its first tokens need: rewind the row to 0 first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gradient
from gradient.backends.options import SlotMap
from gradient.errors import ArgumentError
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
from gradient.kv_cache.static import Static
from gradient.tensor import Tensor

#: Slots of a block up to which rings consist of whole blocks.
SMALL_BLOCK = 32


class Ring(Buffers, Layout):
    """Rings of R slots for layers of one window; they grow by doubling up to this size.

    Attributes:
        size: R, window + max_rewind, rounded up to whole blocks if these are small.
        capacity: present slots, at most R.
        keys, values: each layer's parts (B, H, 1 + capacity, w), by its number.
        kept_from: each row's first token that has not been overwritten.
    """

    axis = 2
    max_rewind: int

    def __init__(
        self, spec: KVCacheSpec, batch_size: int, window: int, max_rewind: int, capacity: int = 0
    ) -> None:
        """Args:
        window: the number of tokens that a query sees, including itself.
        max_rewind: additional tokens to keep, for `rewind`.
        capacity: slots to reserve.
        """
        self.spec = spec
        self.batch_size = batch_size
        self.window = window
        self.max_rewind = max_rewind
        self.size = round_up(window + max_rewind, spec.block if spec.block <= SMALL_BLOCK else 1)
        self.kept_from = [0] * batch_size
        self._allocate(min(self.size, round_up(capacity, spec.block)))

    def allocate_slots(self, batch: Batch) -> RingSlots:
        """See `Layout.allocate_slots`.

        Raises:
            ArgumentError: a pass that was never committed may have overwritten what this one needs.
        """
        self.make_room(batch.tokens, batch.counts, batch.new_counts)
        return RingSlots(self, batch)

    def make_room(self, tokens: int, counts: Sequence[int], new_counts: Sequence[int]) -> None:
        """See `Layout.make_room`. Slots that will be overwritten count as dropped from now on."""
        self._check(counts, "the last pass was broken off midway: ")
        self._reserve(self.extent(tokens, counts))
        self.kept_from = [
            max(first if held else 0, held + new - self.size)
            for first, held, new in zip(self.kept_from, counts, new_counts, strict=True)
        ]

    def extent(self, tokens: int, counts: Sequence[int]) -> int:
        """Return how many slots a pass reads: whole blocks, and at most the present ones."""
        return min(self.size, round_up(max(counts) + tokens, self.spec.block))

    @property
    def room(self) -> tuple[int, ...]:
        """Return the capacity."""
        return (self.capacity,)

    def select(self, rows: Sequence[int], counts: Sequence[int]) -> Ring:
        """See `Layout.select`. What the rows hold is copied."""
        chosen = Ring.__new__(Ring)
        chosen.__dict__.update(self.__dict__)
        chosen.batch_size = len(rows)
        chosen.kept_from = [self.kept_from[row] for row in rows]
        index = index_of(rows, self.spec.device)
        for name in ("keys", "values"):
            buffers = getattr(self, name).items()
            copies = {layer: tuple(part[index] for part in parts) for layer, parts in buffers}
            setattr(chosen, name, copies)
        return chosen

    def join(self, others: Sequence[Ring], counts: Sequence[Sequence[int]]) -> Ring:
        """See `Layout.join`. What the rows hold is copied."""
        layouts = [self, *others]
        if len({layout.size for layout in layouts}) > 1:
            raise ArgumentError("join: sliding caches must have the same max_rewind and block")
        rows = sum(layout.batch_size for layout in layouts)
        capacity = max(layout.capacity for layout in layouts)
        joined = Ring(self.spec, rows, self.window, self.max_rewind, capacity)
        joined.kept_from = [first for layout in layouts for first in layout.kept_from]
        joined._copy_rows(layouts, [1 + layout.capacity for layout in layouts])
        return joined

    def rewind(self, counts: Sequence[int]) -> None:
        self._check(counts, "")

    def read(self, layer: int, row: int, start: int, stop: int) -> KeyValues:
        index = gradient.arange(start, stop, device=self.spec.device) % self.size + 1
        return self._of_row(layer, row, index)

    def first(self, row: int, count: int) -> int:
        return self.kept_from[row] if count else 0

    def _shape(self, heads: int, capacity: int) -> tuple[int, ...]:
        return self.batch_size, heads, 1 + capacity

    def _check(self, counts: Sequence[int], reason: str) -> None:
        """Raise unless all tokens that the token after `counts` attends to are stored."""
        for row, (count, first) in enumerate(zip(counts, self.kept_from, strict=True)):
            if count and first > max(0, count + 1 - self.window):
                raise ArgumentError(
                    f"sliding cache: {reason}row {row} cannot go on after {count} tokens, as of "
                    f"those before only the ones from {first} on are kept; rewind the row to 0 and "
                    "compute the text anew, or give the cache a larger max_rewind (it is "
                    f"{self.max_rewind} tokens)"
                )

    def _reserve(self, slots: int) -> None:
        if slots <= self.capacity:
            return
        more = round_up(max(slots, 2 * self.capacity), self.spec.block)
        self._grow(min(self.size, more))


def make_layouts(
    spec: KVCacheSpec, batch_size: int, *, capacity: int = 0, max_rewind: int = 32
) -> list[Layout]:
    """Return the layouts of a sliding cache: a ring for each window, buffers for full layers."""
    if max_rewind < 0:
        raise ArgumentError(f"cache: max_rewind must be at least 0 tokens, got {max_rewind}")
    layouts: list[Layout] = []
    for window in dict.fromkeys(shape.window for shape in spec.shapes.values()):
        shapes = {layer: shape for layer, shape in spec.shapes.items() if shape.window == window}
        own = replace(spec, shapes=shapes)
        layouts.append(
            Static(own, batch_size, capacity)
            if window is None
            else Ring(own, batch_size, window, max_rewind, capacity)
        )
    return layouts


class RingSlots(Slots):
    """The slots of one batch in rings."""

    def __init__(self, ring: Ring, batch: Batch) -> None:
        self.ring = ring
        self.batch = batch
        self.written = 1 + batch.positions % ring.size  # (B, T): each token's slot
        kept = _kept(batch, ring.size)
        if kept is not None:
            self.written = gradient.where(kept, self.written, 0)
        # Whether the new slots can be written first, and read back with the rest of the ring.
        self.writes_first = batch.fresh or batch.tokens <= ring.max_rewind + 1
        self.map = self._map()

    def update(self, layer: int, new: KeyValues, window: int | None) -> KeyValues:
        ring = self.ring
        if window != ring.window:  # all layers of the ring read the same slots
            raise ArgumentError(
                f"sliding cache: layer {layer} attends with window={window}, but the model's "
                f"kv_shapes announced {ring.window}"
            )
        buffers = KeyValues(ring.keys[layer], ring.values[layer])
        if self.writes_first:
            self._write(buffers, new)
            return new if self.batch.fresh else buffers
        both = KeyValues(
            *(
                tuple(
                    gradient.cat([part[self.batch.rows, :, self.before].transpose(1, 2), added], 2)
                    for part, added in zip(*parts, strict=True)
                )
                for parts in zip(buffers, new, strict=True)
            )
        )
        self._write(buffers, new)
        return both

    def _map(self) -> SlotMap:
        batch, ring = self.batch, self.ring
        if batch.fresh:
            return batch.fresh_map()
        positions = batch.positions.array
        if not self.writes_first:
            # The tokens that the first new one sees, in order, followed by the new ones.
            held = min(ring.window - 1, max(batch.counts))
            first = batch.lengths - held  # (B,)
            before = first.unsqueeze(1) + gradient.arange(held, device=ring.spec.device)
            self.before = 1 + before.clamp(min=0) % ring.size  # (B, held)
            extent = held + batch.tokens
            return SlotMap(positions, extent, extent, {}, start=first.array)
        block = ring.spec.block
        # No query exceeds its window, no slot is empty or overwritten: all see all they read.
        single = batch.tokens == 1 and batch.equal_lengths and block == 1
        return SlotMap(
            positions,
            ring.extent(batch.tokens, batch.counts),
            ring.size,
            {},
            offset=1,
            wraps=True,
            see_all=single and batch.end <= ring.window,
        )

    def _write(self, buffers: KeyValues, new: KeyValues) -> None:
        for stored, added in zip(buffers, new, strict=True):
            for buffer, part in zip(stored, added, strict=True):
                buffer[self.batch.rows, :, self.written] = part.transpose(1, 2)


def _kept(batch: Batch, size: int) -> Tensor | None:
    """Return which of the new slots go into the ring, (B or 1, T) bool; None: all."""
    if batch.tokens <= size:
        return batch.real
    offsets = gradient.arange(batch.tokens, device=batch.positions.device).unsqueeze(0)
    last = offsets >= batch.new_lengths - size
    return last if batch.real is None else last & batch.real
