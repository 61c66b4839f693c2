"""The interface of layouts, which store the keys and values of some layers in slots.

Dimensions, here and in the layouts:
    B  rows (sequences)     T  new tokens          S  slots attended to
    H  key-value heads      D  size of a head      w  width of a codec's part

A layout stores the parts that a codec makes of keys and values, for one or several layers. It does
not compute attention or count tokens; `KVCache` does. For every forward pass it allocates `Slots`
for the new tokens; each layer updates these with its new slots and gets the parts to attend to,
without a copy: the backend reads them in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradient
from gradient.backends.options import SlotMap
from gradient.kv_cache.codec import Codec, Codecs, Parts, empty_parts
from gradient.models.causal_lm import KVShape
from gradient.tensor import Device, Tensor


class KeyValues(NamedTuple):
    """The parts of keys, and those of values."""

    keys: Parts
    values: Parts


@dataclass(frozen=True)
class KVCacheSpec:
    """The specification of a layout: its layers, its codecs, its device."""

    shapes: dict[int, KVShape]  # by the layer's number
    codecs: Codecs
    device: Device | str | None
    block: int  # attention reads a multiple of this number of slots


@dataclass(frozen=True)
class Batch:
    """The new tokens of one forward pass."""

    tokens: int  # T
    counts: list[int]  # tokens that each row held before
    new_counts: list[int]  # new real tokens of each row; the others are padding, on the right
    lengths: Tensor  # (B,) int64: `counts` on the device
    positions: Tensor  # (B, T) int64: the new tokens' positions in their rows
    rows: Tensor  # (B, 1) int64: 0 .. B - 1
    new_lengths: Tensor | int  # (B, 1) int64: the same on the device; T if there is no padding
    real: Tensor | None  # (B, T) bool: False for padding; None if there is none

    @property
    def end(self) -> int:
        """Return the number of slots in use after this pass, padding included."""
        return max(self.counts) + self.tokens

    @property
    def fresh(self) -> bool:
        """Whether all rows were empty: then the new tokens attend only to each other."""
        return not any(self.counts)

    def fresh_map(self) -> SlotMap:
        """Return the slots of a fresh batch: the new ones side by side."""
        return SlotMap(self.positions.array, self.tokens, self.tokens, {}, fresh=True)

    @property
    def equal_lengths(self) -> bool:
        """Whether all rows held the same number of tokens."""
        return len(set(self.counts)) == 1


class Slots(ABC):
    """The places of one batch's new slots in a layout, and the slots to attend to."""

    #: The places of the slots that `update` returns, and which of them queries see.
    map: SlotMap

    @abstractmethod
    def update(self, layer: int, new: KeyValues, window: int | None) -> KeyValues:
        """Store a layer's new slots (B, H, T, w); return the parts to attend to, without a copy."""


class Layout(ABC):
    """Slots of keys and values for B rows of some layers."""

    spec: KVCacheSpec
    #: The number of tokens by which rows can always be rewound; None: any number.
    max_rewind: int | None = None

    @abstractmethod
    def extent(self, tokens: int, counts: Sequence[int]) -> int:
        """Return the slots that a pass over `tokens` more reads, if the rows hold `counts`."""

    @property
    @abstractmethod
    def room(self) -> tuple[int, ...]:
        """Return the sizes of `tensors`; equal sizes mean equal shapes."""

    @property
    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Return the tensors that a pass reads or writes, always in the same order."""

    @abstractmethod
    def make_room(self, tokens: int, counts: Sequence[int], new_counts: Sequence[int]) -> None:
        """Allocate slots for `tokens` more, if the rows hold `counts`; new_counts[row] are real.

        This is the host's part of `allocate_slots`. A second call changes nothing more.
        """

    @abstractmethod
    def allocate_slots(self, batch: Batch) -> Slots:
        """Make room for a batch's slots.

        A pass that is not completed has changed nothing, except in a ring (`sliding`) with more
        than max_rewind + 1 tokens: slots that it may have overwritten count as dropped.
        """

    @abstractmethod
    def select(self, rows: Sequence[int], counts: Sequence[int]) -> Layout:
        """Return a layout of these rows, which hold `counts` tokens; independent of this one."""

    @abstractmethod
    def join(self, others: Sequence[Any], counts: Sequence[Sequence[int]]) -> Layout:
        """Return a layout of these rows and those of `others`, which differ only in their rows.

        Args:
            counts: tokens of the rows, for this layout and each other one.
        """

    @abstractmethod
    def rewind(self, counts: Sequence[int]) -> None:
        """Drop each row's tokens beyond counts[row]; the rows must have that many.

        Raises:
            ArgumentError: slots that the remaining tokens need were dropped.
        """

    @abstractmethod
    def read(self, layer: int, row: int, start: int, stop: int) -> KeyValues:
        """Return a row's stored parts of the tokens `start` to `stop` - 1: (H, stop - start, w)."""

    def first(self, row: int, count: int) -> int:
        """Return the first stored token of a row with `count` tokens."""
        return 0

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Return the bytes of the layout's tensors."""


class Buffers:
    """Every layer's keys and values in tensors that grow along one axis.

    Attributes:
        capacity: usable places along that axis.
        keys, values: each layer's parts, by its number.
    """

    spec: KVCacheSpec
    #: The axis along which the tensors grow.
    axis: int
    capacity: int

    def _shape(self, heads: int, capacity: int) -> tuple[int, ...]:
        """Return the shape of a layer's tensors without the last axis."""
        raise NotImplementedError

    def _allocate(self, capacity: int) -> None:
        self.capacity = capacity
        keys, values = self.spec.codecs
        self.keys = {layer: self._empty(layer, keys, capacity) for layer in self.spec.shapes}
        self.values = {layer: self._empty(layer, values, capacity) for layer in self.spec.shapes}

    def _empty(self, layer: int, codec: Codec, capacity: int) -> Parts:
        heads, size, _ = self.spec.shapes[layer]
        return empty_parts(codec, self._shape(heads, capacity), size, self.spec.device)

    def _copy_rows(self, sources: Sequence[Buffers], ends: Sequence[int]) -> None:
        """Copy the rows of other buffers, one after another, each up to a given slot."""
        first = 0
        for source, end in zip(sources, ends, strict=True):
            for name in ("keys", "values"):
                for layer, parts in getattr(self, name).items():
                    for new, old in zip(parts, getattr(source, name)[layer], strict=True):
                        new[first : first + len(old), :, :end] = old[:, :, :end]
            first += len(old)

    def _of_row(self, layer: int, row: int, slots: Any) -> KeyValues:
        """Return a row's parts in these slots, (H, n, w)."""
        buffers = (self.keys[layer], self.values[layer])
        return KeyValues(*(tuple(part[row][:, slots] for part in parts) for parts in buffers))

    def _grow(self, capacity: int) -> None:
        """Move everything into larger tensors.

        If memory runs out midway, or the user interrupts it, all layers still hold their content.
        """
        for buffers, codec in zip((self.keys, self.values), self.spec.codecs, strict=True):
            for layer, parts in buffers.items():
                grown = self._empty(layer, codec, capacity)
                used = self._shape(self.spec.shapes[layer].heads, self.capacity)[self.axis]
                held = (*[slice(None)] * self.axis, slice(used))
                for new, old in zip(grown, parts, strict=True):
                    new[held] = old[held]
                buffers[layer] = grown
        self.capacity = capacity

    @property
    def tensors(self) -> list[Tensor]:
        """Return every layer's parts, of keys and then of values."""
        layers = [*self.keys.values(), *self.values.values()]
        return [part for parts in layers for part in parts]

    @property
    def nbytes(self) -> int:
        """Return the bytes of all tensors, used or not."""
        return sum(part.nbytes for part in self.tensors)


def round_up(count: int, block: int) -> int:
    """Return `count`, rounded up to a multiple of `block`."""
    return -(-count // block) * block


def index_of(rows: Sequence[int], device: Device | str | None) -> Tensor:
    """Return row numbers as an index on the device."""
    return gradient.tensor(list(rows), dtype=gradient.int64, device=device)
