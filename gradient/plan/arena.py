"""The memory of a plan's buffers: one block, whose space is reused as buffers die."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from gradient.plan.calls import Buffer, Call, Ref

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""

MANY = 1000
"""Buffers beyond which the slower layouts, whose time grows with their square, are not tried."""

EFFORT = 1 << 21
"""Pairs of buffers that are compared, at most, for each of the slower layouts: about 0.1 s."""

SLACK = 1 << 16
"""Bytes that a layout may waste."""

TRIES = 64
"""Layouts of one kind that are tried at most."""


@dataclass(frozen=True)
class Layout:
    """The offset in the block of each root that calls make, and the size of the block in bytes."""

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
    """A layout with little waste: the best of several, if there is time for more than one.

    Two orders of placement are tried: the largest buffers first, and the buffers first that are
    alive at the peak. After each trial, the buffer at the layout's end moves to the front.
    """
    best = _by_birth(lives, buffers)
    if not lives or len(lives) > MANY:
        return best
    held = _held(lives, buffers)
    least = max(held)
    for order in (_by_size(lives, buffers), _by_crowd(lives, buffers, held)):
        for _ in range(max(1, min(TRIES, EFFORT // len(lives) ** 2))):
            if best.nbytes <= least + SLACK:
                break
            layout, topmost = _first_fit(order, lives, buffers)
            best = min(best, layout, key=lambda each: each.nbytes)
            order.remove(topmost)
            order.insert(0, topmost)
    return best


def _held(lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]) -> list[int]:
    """The bytes of the buffers alive at each call; their maximum is a lower bound of any layout."""
    held = [0] * (2 + max(dies for _, dies in lives.values()))
    for root, (born, dies) in lives.items():
        held[born] += _size(buffers[root])
        held[dies + 1] -= _size(buffers[root])
    return list(accumulate(held))


def _by_size(lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]) -> list[Ref]:
    return sorted(lives, key=lambda root: -buffers[root].nbytes)


def _by_crowd(
    lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer], held: Sequence[int]
) -> list[Ref]:
    """Buffers in order: those alive at the call with most bytes come first, largest first."""
    most = {root: max(held[born : dies + 1]) for root, (born, dies) in lives.items()}
    return sorted(lives, key=lambda root: (-most[root], -buffers[root].nbytes))


def _first_fit(
    order: Sequence[Ref], lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]
) -> tuple[Layout, Ref]:
    """Place each buffer at the first offset that is free during its life; return the layout, and
    the buffer at its end."""
    offsets: dict[Ref, int] = {}
    total, topmost = 0, order[0]
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first use, last use), in order
    for root in order:
        born, dies = lives[root]
        size = _size(buffers[root])
        at = 0
        for offset, end, first, last in placed:
            if first <= dies and born <= last:
                if offset - at >= size:
                    break
                at = max(at, end)
        offsets[root] = at
        insort(placed, (at, at + size, born, dies))
        if at + size > total:
            total, topmost = at + size, root
    return Layout(offsets, total), topmost


def place_during(
    call: int,
    nbytes: int,
    layout: Layout,
    lives: dict[Ref, tuple[int, int]],
    buffers: Sequence[Buffer],
) -> int:
    """The first offset of `nbytes` bytes that no buffer uses during a call; it may lie past the
    layout's end."""
    at = 0
    for offset, root in sorted((offset, root) for root, offset in layout.offsets.items()):
        if lives[root][0] <= call <= lives[root][1]:
            if offset - at >= nbytes:
                break
            at = max(at, -(-(offset + buffers[root].nbytes) // ALIGNMENT) * ALIGNMENT)
    return at


def _size(buffer: Buffer) -> int:
    """The bytes that a buffer takes."""
    return -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT


def _by_birth(lives: dict[Ref, tuple[int, int]], buffers: Sequence[Buffer]) -> Layout:
    """A layout by first fit, in the order in which buffers are made."""
    offsets: dict[Ref, int] = {}
    total = 0
    active: list[tuple[int, int, int]] = []  # (offset, end, last use)
    for root in sorted(lives, key=lambda root: (lives[root][0], -buffers[root].nbytes)):
        born, dies = lives[root]
        active = sorted(each for each in active if each[2] >= born)
        size = _size(buffers[root])
        at = 0
        for offset, end, _ in active:
            if offset - at >= size:
                break
            at = max(at, end)
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
    if buffer.nbytes == 0:
        return np.ndarray(buffer.shape, buffer.dtype, memory)
    # Of an axis in reverse, the first element is the last in memory.
    steps = zip(buffer.shape, buffer.strides, strict=True)
    first = sum((1 - n) * step for n, step in steps if step < 0)
    return np.ndarray(buffer.shape, buffer.dtype, memory, first, buffer.strides)


def has_gaps(x: np.ndarray) -> bool:
    """Whether a copy of an array would have other strides than the array."""
    return bool(x.size) and np.empty_like(x).strides != x.strides and min(x.strides) >= 0


def copied(x: np.ndarray) -> np.ndarray:
    """A copy with the strides of `x`, gaps included: strides decide the order of later sums."""
    extent = sum((n - 1) * step for n, step in zip(x.shape, x.strides, strict=True))
    made: np.ndarray = np.ndarray(
        x.shape, x.dtype, np.empty(extent + x.itemsize, np.uint8), 0, x.strides
    )
    np.copyto(made, x)
    return made
