"""The sliding layout: for layers with a window, a ring of little more columns than that.

Token n lies in column n mod R, so that it takes the place of token n - R, which nobody will ask for
again (Jiang et al. 2023, "Mistral 7B", section 2, "Rolling buffer cache"). R is the window and some
slack. A layer then holds R columns, however long the text.

Three things are not plain about a ring:

- Many new tokens at once would overwrite what the first of them still look back to. Up to slack + 1
  are written and then the ring is read; of more (a chunk of a prompt) the queries get the ring as
  it was and the new columns beside it, and then the last R of these are written.
- Padding must not be written, as it would overwrite real tokens. It goes to column 0, a bin that is
  never read; the ring begins at column 1.
- A ring forgets, so it can be rewound only so far: by `slack` tokens at least, and as long as
  nothing has been overwritten to any length. Beyond that `rewind` raises, and the text has to be
  computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import gradient
from gradient.errors import ArgumentError
from gradient.kv_cache.layout import (
    Geometry,
    Layout,
    Pair,
    Pass,
    View,
    enlarge,
    index_of,
    nbytes,
    visible,
    whole_blocks,
)
from gradient.kv_cache.static import Static
from gradient.kv_cache.storage import Planes, Storage, empty_planes
from gradient.tensor import Tensor

#: A position that no query reaches: that of a column which holds nothing.
NOWHERE = 2**62


class Ring(Layout):
    """Rings of R columns for layers of one window; they grow by doubling until they have them.

    Attributes:
        size: R, the window and the slack, in whole blocks.
        capacity: columns that there are, R at most.
        keys, values: each layer's planes (B, H, 1 + capacity, w), by its number.
        kept_from: each row's first token that has not been overwritten.
    """

    slack: int

    def __init__(
        self, geometry: Geometry, batch_size: int, window: int, slack: int, capacity: int = 0
    ) -> None:
        """Args:
        window: how many tokens a query sees, itself counted.
        slack: how many tokens more are kept, to rewind by.
        capacity: columns to reserve.
        """
        self.geometry = geometry
        self.batch_size = batch_size
        self.window = window
        self.slack = slack
        self.size = whole_blocks(window + slack, geometry.block)
        self.capacity = min(self.size, whole_blocks(capacity, geometry.block))
        self.kept_from = [0] * batch_size
        keys, values = geometry.storages
        made = self.capacity
        self.keys = {layer: self._buffer(layer, keys, made) for layer in geometry.shapes}
        self.values = {layer: self._buffer(layer, values, made) for layer in geometry.shapes}

    def open(self, step: Pass) -> RingView:
        """See `Layout.open`."""
        self._check(step.counts, "the last pass was broken off midway: ")
        self._reserve(min(self.size, whole_blocks(step.end, self.geometry.block)))
        self.kept_from = [
            max(first if held else 0, held + new - self.size)
            for first, held, new in zip(self.kept_from, step.counts, step.new, strict=True)
        ]
        return RingView(self, step)

    def select(self, rows: Sequence[int], counts: Sequence[int]) -> Ring:
        """See `Layout.select`. What the rows hold is copied."""
        chosen = Ring.__new__(Ring)
        chosen.__dict__.update(self.__dict__)
        chosen.batch_size = len(rows)
        chosen.kept_from = [self.kept_from[row] for row in rows]
        index = index_of(rows, self.geometry.device)
        for name in ("keys", "values"):
            buffers = getattr(self, name).items()
            copies = {layer: tuple(plane[index] for plane in planes) for layer, planes in buffers}
            setattr(chosen, name, copies)
        return chosen

    def join(self, others: Sequence[Ring], counts: Sequence[Sequence[int]]) -> Ring:
        """See `Layout.join`. What the rows hold is copied."""
        parts = [self, *others]
        if len({part.size for part in parts}) > 1:
            raise ArgumentError("join: sliding caches must have the same slack and block")
        rows, capacity = sum(part.batch_size for part in parts), max(p.capacity for p in parts)
        joined = Ring(self.geometry, rows, self.window, self.slack, capacity)
        joined.kept_from = [first for part in parts for first in part.kept_from]
        begin = 0
        for part in parts:
            rows_of_part = slice(begin, begin + part.batch_size)
            for name in ("keys", "values"):
                for layer, planes in getattr(joined, name).items():
                    for new, old in zip(planes, getattr(part, name)[layer], strict=True):
                        new[rows_of_part, :, : 1 + part.capacity] = old
            begin = rows_of_part.stop
        return joined

    def rewind(self, counts: Sequence[int]) -> None:
        """See `Layout.rewind`."""
        self._check(counts, "")

    def columns(self, layer: int, row: int, start: int, stop: int) -> Pair:
        """See `Layout.columns`."""
        index = gradient.arange(start, stop, device=self.geometry.device) % self.size + 1
        return Pair(
            *(
                tuple(plane[row][:, index] for plane in buffers[layer])
                for buffers in (self.keys, self.values)
            )
        )

    def first(self, row: int, count: int) -> int:
        """See `Layout.first`."""
        return self.kept_from[row] if count else 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of all rings."""
        return nbytes([*self.keys.values(), *self.values.values()])

    def _check(self, counts: Sequence[int], reason: str) -> None:
        """Raise unless what the token after `counts` looks back to is there."""
        for row, (count, first) in enumerate(zip(counts, self.kept_from, strict=True)):
            if count and first > max(0, count + 1 - self.window):
                raise ArgumentError(
                    f"sliding cache: {reason}row {row} cannot go on after {count} tokens, as of "
                    f"those before only the ones from {first} on are kept; compute the text anew, "
                    f"or give the cache more slack (it has {self.slack} tokens beyond its window)"
                )

    def _buffer(self, layer: int, storage: Storage, columns: int) -> Planes:
        heads, size, _ = self.geometry.shapes[layer]
        lead = (self.batch_size, heads, 1 + columns)
        return empty_planes(storage, lead, size, self.geometry.device)

    def _reserve(self, columns: int) -> None:
        if columns <= self.capacity:
            return
        more = whole_blocks(max(columns, 2 * self.capacity), self.geometry.block)
        more = min(self.size, more)
        held = (slice(None), slice(None), slice(1 + self.capacity))
        for buffers, storage in zip((self.keys, self.values), self.geometry.storages, strict=True):
            enlarge(buffers, partial(self._buffer, storage=storage, columns=more), held)
        self.capacity = more


def arrange(
    geometry: Geometry, batch_size: int, *, capacity: int = 0, slack: int = 32
) -> list[Layout]:
    """Return the layouts of a sliding cache: a ring for each window, buffers for full layers."""
    if slack < 0:
        raise ArgumentError(f"cache: slack must be at least 0 tokens, got {slack}")
    layouts: list[Layout] = []
    for window in dict.fromkeys(shape.window for shape in geometry.shapes.values()):
        shapes = {
            layer: shape for layer, shape in geometry.shapes.items() if shape.window == window
        }
        part = replace(geometry, shapes=shapes)
        layouts.append(
            Static(part, batch_size, capacity)
            if window is None
            else Ring(part, batch_size, window, slack, capacity)
        )
    return layouts


class RingView(View):
    """One pass over rings."""

    def __init__(self, ring: Ring, step: Pass) -> None:
        self.ring = ring
        self.step = step
        block = ring.geometry.block
        # Whether the new columns can be written first, and read back with the rest of the ring.
        self.through = step.tokens <= ring.slack + 1
        held = step.end if self.through else max(step.counts)
        self.extent = min(ring.size, whole_blocks(held, block))  # columns read of the ring
        # No query looks past its window, no column is empty or overwritten: all see all they read.
        self.single = step.tokens == 1 and step.even and block == 1 and step.end <= ring.window
        self.to = 1 + step.slots % ring.size  # (B, T): where each new column is written
        stays = _stays(step, ring.size)
        if stays is not None:
            self.to = gradient.where(stays, self.to, 0)
        self._mask: Tensor | None = None

    def append(self, layer: int, new: Pair, window: int | None) -> Pair:
        """See `View.append`."""
        ring = self.ring
        if window is None or window > ring.window:
            raise ArgumentError(
                f"sliding cache: layer {layer} attends with window={window}, but the model's "
                f"kv_shapes announced {ring.window}"
            )
        buffers = Pair(ring.keys[layer], ring.values[layer])
        if self.step.fresh or self.through:
            self._write(buffers, new)
            return new if self.step.fresh else self._read(buffers)
        held = self._read(buffers)
        both = Pair(
            *(
                tuple(gradient.cat(parts, dim=2) for parts in zip(*planes, strict=True))
                for planes in zip(held, new, strict=True)
            )
        )
        self._write(buffers, new)
        return both

    def mask(self, window: int | None) -> Tensor | None:
        """See `View.mask`."""
        if self.single:
            return None
        if self._mask is None:
            self._mask = visible(self._positions(), self.step.slots, window)
        return self._mask

    def _positions(self) -> Tensor:
        """Return the positions of the columns that are read, (B, S)."""
        step, ring = self.step, self.ring
        columns = gradient.arange(self.extent, device=ring.geometry.device)
        # Padding counts as written: the columns it would take are past every window.
        newest = step.lengths.unsqueeze(1) - 1 + (step.tokens if self.through else 0)  # (B, 1)
        # Of the positions that column c may hold, c, c + R, ..., the last that has been written.
        held = newest - (newest - columns) % ring.size  # (B, S)
        held = gradient.where(held < 0, NOWHERE, held)
        return held if self.through else gradient.cat([held, step.slots], dim=1)

    def _read(self, buffers: Pair) -> Pair:
        columns = slice(1, 1 + self.extent)
        return Pair(*(tuple(plane[:, :, columns] for plane in planes) for planes in buffers))

    def _write(self, buffers: Pair, new: Pair) -> None:
        for planes, parts in zip(buffers, new, strict=True):
            for plane, part in zip(planes, parts, strict=True):
                plane[self.step.rows, :, self.to] = part.transpose(1, 2)


def _stays(step: Pass, size: int) -> Tensor | None:
    """Return which of the new columns belong into the ring, (B or 1, T) bool; None if all do."""
    if step.tokens <= size:
        return step.real
    columns = gradient.arange(step.tokens, device=step.slots.device).unsqueeze(0)
    last = columns >= step.brought - size
    return last if step.real is None else last & step.real
