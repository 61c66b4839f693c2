"""Attention over a key-value cache, by kernels that read its stored parts in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.composed.cached_attention import CachedAttentionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.dtypes import HALF_PRECISION

TILE = 192
"""Query rows of a key head that go through its blocks of keys together. Of no more than that, the
blocks are spread over the threads."""

JOINED = 1 << 14
"""Numbers of parts that are worth a thread's waking to join them."""

CHUNK = 1 << 19
"""Multiplications, of scores, that are worth a thread's waking."""

READ = 8
"""Query rows whose scores take as long as reading the keys."""


class CachedAttentionKernels(CachedAttentionDefaults[np.ndarray]):
    """Overrides of `composed.cached_attention`."""

    def cached_attention(
        self,
        q: np.ndarray,
        keys: tuple[np.ndarray, ...],
        values: tuple[np.ndarray, ...],
        slots: SlotMap,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> np.ndarray:
        if not (_supported(q) and _stored(keys) and _stored(values)):
            return super().cached_attention(q, keys, values, slots, options)
        keys, values = (tuple(map(kernels.contiguous, parts)) for parts in (keys, values))
        family = kernels.load("cached_attention")
        block = family.BLOCK
        b, h, t, d = q.shape
        heads = keys[0].shape[1 if slots.table is None else 2]
        e = values[0].shape[-1] * (2 if len(values) == 3 else 1)
        rows, groups = t * (h // heads), h // heads
        out = np.empty((b, t, h, e), np.float32)

        window = options.window or slots.extent + t  # larger than any query needs
        rest = np.float32(options.scale), window, np.float32(options.softcap or 0)
        slots_of = (
            np.ascontiguousarray(q.transpose(0, 2, 1, 3), np.float32).reshape(-1),
            kernels.contiguous(slots.positions), np.array((b, t, h, heads, d, e)),
            *_places(keys[0].shape, slots),
        )  # fmt: skip
        k, v = _vectors(keys, d), _vectors(values, e)
        parts = _blocks(slots, window, block) if rows <= TILE else 1
        tile = rows if rows <= TILE else max(TILE // groups, 1) * groups
        units = b * heads * -(-rows // tile) * parts
        held = units * rows if parts > 1 else 0
        high, sums = np.empty((2, held), np.float32)
        o = np.empty(held * (-(-e // 32) * 32), np.float32)
        chunk = max(1, CHUNK // (block * d * (rows + READ))) if parts > 1 else 1
        results = parts, high, sums, o, out.reshape(-1)
        threads.parallel_for(
            family.attend, units, chunk, *slots_of,
            _form(keys, d), *k, _form(values, e), *v, *rest, tile, *results,
        )  # fmt: skip
        if parts > 1:
            threads.parallel_for(
                family.join_parts, b * heads, max(1, JOINED // (held // (b * heads) * e)),
                slots_of[2], parts, high, sums, o, out.reshape(-1),
            )  # fmt: skip
        return out.astype(q.dtype, copy=False).transpose(0, 2, 1, 3)


def _blocks(slots: SlotMap, window: int, block: int) -> int:
    """An upper bound of the number of blocks with slots that a row of queries sees."""
    seen = window + slots.positions.shape[1] - 1
    blocks = -(-(seen - 1) // block) + 1
    if slots.wraps or slots.start is not None:
        return blocks
    return min(blocks, -(-slots.extent // block))


def _places(shape: tuple[int, ...], slots: SlotMap) -> tuple[np.ndarray, ...]:
    """For kernels: the table of pages, the strides of vectors, and the rows' first positions."""
    starts = np.empty(0, np.int64) if slots.start is None else slots.start
    if slots.table is None:
        _, heads, n, _ = shape
        place = slots.size if slots.wraps else n, slots.offset, heads * n, n, 1
        return np.empty((0, 0), np.int64), np.array(place), starts
    _, size, heads, _ = shape
    return slots.table, np.array((size, 0, size * heads, 1, heads)), starts


def _vectors(parts: tuple[np.ndarray, ...], n: int) -> tuple[Any, ...]:
    """The storage of vectors of n numbers, for the kernels."""
    stored = kernels.load("stored")
    data, *scales = (part.reshape(-1).view(np.uint8) for part in parts)
    if not scales:
        return stored.KINDS[parts[0].dtype.name], data, data, data, n
    kind = stored.INT8 if len(scales) == 1 else stored.INT4
    return kind, data, scales[0], scales[-1], n // parts[1].shape[-1]


def _form(parts: tuple[np.ndarray, ...], n: int) -> np.ndarray:
    """An empty array whose type says how vectors of n are multiplied: as stored, or converted to
    float32 first."""
    in_place = len(parts) == 1 and n % (2 * kernels.load("stored").SOME) == 0
    half = kernels.load("half_precision")
    return half.stored(parts[0][:0].reshape(-1)) if in_place else np.empty(0, np.float32)


def _supported(q: np.ndarray) -> bool:
    return (
        type(q) is np.ndarray
        and q.size > 0
        and (q.dtype == np.float32 or q.dtype in HALF_PRECISION)
        and kernels.available()
        and kernels.load("linear").converts_float16()
    )


def _stored(parts: tuple[np.ndarray, ...]) -> bool:
    """Whether the kernels can read these parts."""
    kinds = kernels.load("stored").KINDS
    return type(parts[0]) is np.ndarray and (len(parts) > 1 or parts[0].dtype.name in kinds)
