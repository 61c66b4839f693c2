"""The static layout: one buffer per layer and plane, (B, H, N, w), token n in column n.

Row b holds its tokens in columns 0 .. lengths[b] - 1, whatever the other rows hold. New tokens are
written behind them; a row that brings fewer than the others writes its padding too, and what comes
next overwrites it. Since a query attends only to columns up to its own, it sees neither padding nor
what a column held before: so forgetting tokens costs nothing.

Every layer keeps every token, those with a sliding window too (which attend to a part of them).
The buffers double when they are full, so that a token costs, over time, no more than one copy of
itself; with the capacity given at the start they never move.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import gradient
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
from gradient.kv_cache.storage import Planes, Storage, empty_planes
from gradient.tensor import Tensor


class Static(Layout):
    """Buffers of N columns for every row, which grow by doubling.

    Attributes:
        capacity: N.
        keys, values: each layer's planes (B, H, N, w), by its number.
    """

    def __init__(self, geometry: Geometry, batch_size: int, capacity: int = 0) -> None:
        self.geometry = geometry
        self.batch_size = batch_size
        self.capacity = whole_blocks(capacity, geometry.block)
        keys, values = geometry.storages
        made = self.capacity
        self.keys = {layer: self._buffer(layer, keys, made) for layer in geometry.shapes}
        self.values = {layer: self._buffer(layer, values, made) for layer in geometry.shapes}

    def open(self, step: Pass) -> StaticView:
        """See `Layout.open`."""
        extent = step.tokens if step.fresh else whole_blocks(step.end, self.geometry.block)
        self._reserve(extent)
        return StaticView(self, step, extent)

    def select(self, rows: Sequence[int], counts: Sequence[int]) -> Static:
        """See `Layout.select`. What the rows hold is copied."""
        chosen = Static(self.geometry, len(rows), self.capacity)
        index, held = index_of(rows, self.geometry.device), max(counts, default=0)
        for name in ("keys", "values"):
            for layer, planes in getattr(chosen, name).items():
                for new, old in zip(planes, getattr(self, name)[layer], strict=True):
                    new[:, :, :held] = old[:, :, :held][index]
        return chosen

    def join(self, others: Sequence[Static], counts: Sequence[Sequence[int]]) -> Static:
        """See `Layout.join`. What the rows hold is copied."""
        parts = [self, *others]
        capacity = max(part.capacity for part in parts)
        joined = Static(self.geometry, sum(part.batch_size for part in parts), capacity)
        first = 0
        for part, held in zip(parts, counts, strict=True):
            rows = slice(first, first + part.batch_size)
            for name in ("keys", "values"):
                for layer, planes in getattr(joined, name).items():
                    for new, old in zip(planes, getattr(part, name)[layer], strict=True):
                        new[rows, :, : max(held)] = old[:, :, : max(held)]
            first = rows.stop
        return joined

    def rewind(self, counts: Sequence[int]) -> None:
        """Do nothing: what lies beyond a row's length is not seen, and overwritten."""

    def columns(self, layer: int, row: int, start: int, stop: int) -> Pair:
        """See `Layout.columns`."""
        return Pair(
            *(
                tuple(plane[row, :, start:stop] for plane in buffers[layer])
                for buffers in (self.keys, self.values)
            )
        )

    @property
    def nbytes(self) -> int:
        """Return the bytes of all buffers."""
        return nbytes([*self.keys.values(), *self.values.values()])

    def _buffer(self, layer: int, storage: Storage, columns: int) -> Planes:
        heads, size, _ = self.geometry.shapes[layer]
        lead = (self.batch_size, heads, columns)
        return empty_planes(storage, lead, size, self.geometry.device)

    def _reserve(self, columns: int) -> None:
        """Let the buffers have at least `columns` columns, at least doubling them if they grow."""
        if columns <= self.capacity:
            return
        more = whole_blocks(max(columns, 2 * self.capacity), self.geometry.block)
        held = (slice(None), slice(None), slice(self.capacity))
        for buffers, storage in zip((self.keys, self.values), self.geometry.storages, strict=True):
            enlarge(buffers, partial(self._buffer, storage=storage, columns=more), held)
        self.capacity = more


def arrange(geometry: Geometry, batch_size: int, *, capacity: int = 0) -> list[Layout]:
    """Return the layouts of a static cache: one for all layers."""
    return [Static(geometry, batch_size, capacity)]


class StaticView(View):
    """One pass over static buffers."""

    def __init__(self, layout: Static, step: Pass, extent: int) -> None:
        self.layout = layout
        self.step = step
        self.extent = extent  # S: columns that are read, at least those in use
        # Single tokens of rows of one length, which read no column too many, see all they read.
        self.single = step.tokens == 1 and step.even and layout.geometry.block == 1
        self._masks: dict[int | None, Tensor] = {}

    def append(self, layer: int, new: Pair, window: int | None) -> Pair:
        """See `View.append`."""
        buffers = Pair(self.layout.keys[layer], self.layout.values[layer])
        for planes, parts in zip(buffers, new, strict=True):
            for plane, part in zip(planes, parts, strict=True):
                self._write(plane, part)
        if self.step.fresh:
            return new
        # A single token of even rows needs no mask for its window either: the columns are cut.
        start = max(0, self.extent - window) if self.single and window is not None else 0
        return Pair(
            *(tuple(plane[:, :, start : self.extent] for plane in planes) for planes in buffers)
        )

    def mask(self, window: int | None) -> Tensor | None:
        """See `View.mask`."""
        if self.single:
            return None
        if window is not None and window >= self.extent:
            window = None
        if window not in self._masks:
            columns = gradient.arange(self.extent, device=self.layout.geometry.device)
            self._masks[window] = visible(columns, self.step.slots, window)
        return self._masks[window]

    def _write(self, plane: Tensor, part: Tensor) -> None:
        if self.step.fresh:
            plane[:, :, : self.step.tokens] = part
        else:
            # Indices on both sides of a slice: the indexed part has shape (B, T, H, w).
            plane[self.step.rows, :, self.step.slots] = part.transpose(1, 2)
