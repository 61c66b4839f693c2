"""The memory of a plan's buffers: one block, whose space is reused as buffers die."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradient.plan.calls import Buffer, Call, Ref

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""


MANY = 1000
"""Buffers beyond which the slower layout, whose time grows with their square, is not tried."""


@dataclass(frozen=True)
class Layout:
    """The offset in the block of every buffer's root that calls make, and the size of the block
    in bytes."""

    offsets: dict[Ref, int]
    nbytes: int


def lifetimes(
    calls: Sequence[Call], buffers: Sequence[Buffer], outputs: Sequence[Ref]
) -> dict[Ref, tuple[int, int]]:
    """The first and the last call that use the memory of each root that calls make."""
    found: dict[Ref, tuple[int, int]] = {}
    for i, call in enumerate(calls):
        for ref in (*call.outputs, *call.inputs):
            root = buffers[ref].root
            if buffers[root].kind == "internal":
                found[root] = (found.get(root, (i, i))[0], i)
    for ref in outputs:
        root = buffers[ref].root
        if root in found:
            found[root] = (found[root][0], len(calls))
    return found


def packed(lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]) -> Layout:
    """A layout with little waste: the better of two strategies, if there is time for the second."""
    layout = _by_birth(lives, buffers)
    if len(lives) > MANY:
        return layout
    return min(layout, _by_size(lives, buffers), key=lambda each: each.nbytes)


def _by_size(lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]) -> Layout:
    """A layout by first fit among buffers alive at the same time, largest first."""
    offsets: dict[Ref, int] = {}
    total = 0
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first use, last use)
    for root in sorted(lives, key=lambda root: -buffers[root].nbytes):
        born, dies = lives[root]
        beside = sorted(each for each in placed if each[2] <= dies and born <= each[3])
        at, size = _gap([each[:2] for each in beside], buffers[root])
        offsets[root] = at
        placed.append((at, at + size, born, dies))
        total = max(total, at + size)
    return Layout(offsets, total)


def place_during(
    call: int,
    nbytes: int,
    layout: Layout,
    lives: dict[Ref, tuple[int, int]],
    buffers: Sequence[Buffer],
) -> int:
    """The first offset, perhaps past the layout's end, of that many bytes that no buffer uses
    during a call."""
    at = 0
    for offset, root in sorted((offset, root) for root, offset in layout.offsets.items()):
        if lives[root][0] <= call <= lives[root][1]:
            if offset - at >= nbytes:
                break
            at = max(at, -(-(offset + buffers[root].nbytes) // ALIGNMENT) * ALIGNMENT)
    return at


def _gap(taken: Sequence[tuple[int, int]], buffer: Buffer) -> tuple[int, int]:
    """The first free offset beside taken ranges, in order, and its size in bytes."""
    size = -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
    at = 0
    for offset, end in taken:
        if offset - at >= size:
            break
        at = max(at, end)
    return at, size


def _by_birth(lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]) -> Layout:
    """A layout by first fit, in the order in which buffers are made."""
    offsets: dict[Ref, int] = {}
    total = 0
    active: list[tuple[int, int, int]] = []  # (offset, end, last use)
    for root in sorted(lives, key=lambda root: (lives[root][0], -buffers[root].nbytes)):
        born, dies = lives[root]
        active = sorted(each for each in active if each[2] >= born)
        at, size = _gap([each[:2] for each in active], buffers[root])
        offsets[root] = at
        active.append((at, at + size, dies))
        total = max(total, at + size)
    return Layout(offsets, total)


def block(nbytes: int) -> np.ndarray:
    """Aligned bytes."""
    base = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -base.ctypes.data % ALIGNMENT
    return base[start : start + nbytes]


def array_at(memory: np.ndarray, buffer: Buffer) -> np.ndarray:
    """A buffer's array at the start of `memory`, with its recorded strides."""
    if buffer.nbytes == 0 or any(step < 0 for step in buffer.strides):
        return np.ndarray(buffer.shape, buffer.dtype, memory)
    return np.ndarray(buffer.shape, buffer.dtype, memory, 0, buffer.strides)


def has_gaps(x: np.ndarray) -> bool:
    """Whether a copy of an array would have other strides than the array."""
    return bool(x.size) and np.empty_like(x).strides != x.strides and min(x.strides) >= 0


def copied(x: np.ndarray) -> np.ndarray:
    """A copy with the strides of `x`, which decide the order of later sums; it has the extent of
    x in memory."""
    extent = sum((n - 1) * step for n, step in zip(x.shape, x.strides, strict=True))
    made: np.ndarray = np.ndarray(
        x.shape, x.dtype, np.empty(extent + x.itemsize, np.uint8), 0, x.strides
    )
    np.copyto(made, x)
    return made
