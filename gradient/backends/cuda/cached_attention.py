"""Attention over a key-value cache, read where it lies by a kernel while few queries come."""

from __future__ import annotations

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.cached_attention import CachedAttentionDefaults
from gradient.backends.cuda.attention import (
    BLOCK,
    MAX_WIDTH,
    ROWS,
    columns_of,
    parts_of_keys,
    shared_bytes,
    strides,
)
from gradient.backends.cuda.flash_attention import (
    FlashAttentionKernels,
    head_of,
    rows_of_decoding,
    tiles_bytes,
    tiles_of,
)
from gradient.backends.cuda.float32_attention import head_of as float32_head_of
from gradient.backends.cuda.float32_attention import rows_of_decoding as float32_rows_of
from gradient.backends.cuda.launching import LOAD, MAX_GRID, computed_in
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.dtypes import HALF_PRECISION, float16, int8, uint8

FEW_ROWS = 4 * ROWS
"""Rows of heads that share their keys, times queries, up to which each tile of 16 rows reads the
cache for itself."""
PLACE = 8
"""Bytes that say where a key lies (`flash_attention.cuh`)."""


class CachedAttentionKernels(FlashAttentionKernels, CachedAttentionDefaults[Array]):
    """Overrides of `composed.cached_attention`."""

    def cached_attention(
        self,
        q: Array,
        keys: tuple[Array, ...],
        values: tuple[Array, ...],
        slots: SlotMap,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> Array:
        """Without tensor cores, of many queries what is stored is first made numbers; floats are
        read where they lie."""
        if not self._reads_cache(q, keys, values, slots):
            k, v, mask, options = self._cache_read(q, keys, values, slots, options)
            return self.attention(q, k, v, mask, options)[0]
        number = np.dtype(computed_in(q))
        (b, h, t, d), e = q.shape, _width(values)
        paged = slots.table is not None
        key_heads = keys[0].shape[2 if paged else 1]
        first, window = 0, options.window or 0
        if slots.see_all and window and not paged:
            first, window = max(0, slots.extent - window), 0
        see_all = slots.see_all and (not window or window >= slots.extent)
        of_group, head, divide = h // key_heads * t, head_of(max(d, e)), self.parts_of_decoding
        of_blocks = self._float32_cache_fits_blocks(q, keys, values)
        rows, family = ROWS, "decode_cached_attention"
        shared = tiles_bytes(head, rows_of_decoding(head))
        if of_blocks:
            rows = float32_rows_of(of_group)
        elif of_group > FEW_ROWS:
            family, (rows, of_tile) = "flash_cached_attention", tiles_of(head)
            divide = parts_of_keys
            shared = tiles_bytes(head, rows + 4 * of_tile) + 2 * of_tile * PLACE
        tiles = -(-of_group // rows)
        parts = divide(tiles * b * key_heads, slots.extent - first)
        out = self.empty((b, h, t, e), q.dtype)
        partial = self._room_for_parts(parts, out, number)
        table = None if slots.table is None else self.contiguous(slots.table)
        unit = unit_of(keys[0])
        of_batch, of_head, of_slot = (unit[0], unit[2], unit[1]) if paged else unit
        whole = (
            slots.offset, slots.size, 0 if table is None else table.shape[1],
            of_batch, of_head, of_slot, int(slots.wraps), int(see_all), window, first,
        )  # fmt: skip
        given = (
            *_stored(keys), *_stored(values), self.contiguous(slots.positions),
            self.optional(slots.start), table, *map(np.int64, whole), out, partial,
            *map(np.int64, (parts, h, key_heads, t, slots.extent, d, e)),
            np.float64(options.scale), np.float64(options.softcap or 0),
        )  # fmt: skip
        grid = (tiles, b * key_heads, parts)
        if self._cache_fits_tensor_cores(q, keys, values):
            q = self._in_pieces(q)
            self.launch(
                family, f"{family}_{head}", q, grid, BLOCK,
                q, *map(np.int64, strides(q, 3)), *given, shared=shared,
                early=family == "decode_cached_attention",
            )  # fmt: skip
        elif of_blocks:
            q = self._in_pieces(q)
            kernel = f"cached_attention_decode_{float32_head_of(d, e)}_{rows}"
            self.launch(
                "attention_decode_float32", kernel, q, grid, BLOCK,
                q, *map(np.int64, strides(q, 3)), *given,
            )  # fmt: skip
        else:
            self.launch(
                "cached_attention", f"cached_attention_{columns_of(e)}", q, grid, BLOCK,
                self.contiguous(q), *given, shared=shared_bytes(number, d, e),
            )  # fmt: skip
        self._join(partial, out, None, None)
        return out

    def _reads_cache(
        self, q: Array, keys: tuple[Array, ...], values: tuple[Array, ...], slots: SlotMap
    ) -> bool:
        """Whether a kernel reads this cache: few queries or tensor cores, parts alike in how their
        slots lie."""
        d, e, number = q.shape[-1], _width(values), np.dtype(computed_in(q))
        key_heads = keys[0].shape[1 if slots.table is None else 2]
        return (
            self.has_kernel(q)
            and not slots.fresh
            and slots.extent > 0
            and max(d, e) <= MAX_WIDTH
            and d == _width(keys)
            and q.shape[1] % key_heads == 0
            and (
                q.shape[1] // key_heads * q.shape[2] <= FEW_ROWS
                or self._cache_fits_tensor_cores(q, keys, values)
            )
            and self.fits_block(number, d, e)
            and q.shape[0] * key_heads <= MAX_GRID
            and all(_is_stored(parts, q) for parts in (keys, values))
            and all(unit_of(part) == unit_of(keys[0]) != () for part in (*keys, *values))
            and slots.positions.dtype == np.int64
        )

    def _cache_fits_tensor_cores(
        self, q: Array, keys: tuple[Array, ...], values: tuple[Array, ...]
    ) -> bool:
        """16-bit floats, or codes, of which each piece of 8 lies together and has one scale."""
        return (
            q.dtype in HALF_PRECISION
            and self.runtime.has_tensor_cores
            and all(
                _width(parts) % (16 if len(parts) == 3 else 8) == 0
                and all(_width(parts) // scales.shape[-1] % 8 == 0 for scales in parts[1:])
                and self.runtime.address(parts[0]) % 16 == 0
                for parts in (keys, values)
            )
        )

    def _float32_cache_fits_blocks(
        self, q: Array, keys: tuple[Array, ...], values: tuple[Array, ...]
    ) -> bool:
        """Float32, or codes, of which each piece of 4 lies together and has one scale."""
        return (
            q.dtype == np.float32
            and self.runtime.has_tensor_cores
            and max(_width(keys), _width(values)) <= 128
            and all(
                _width(parts) % (8 if len(parts) == 3 else 4) == 0
                and all(_width(parts) // scales.shape[-1] % 4 == 0 for scales in parts[1:])
                and self.runtime.address(parts[0]) % LOAD == 0
                for parts in (keys, values)
            )
        )


def _width(parts: tuple[Array, ...]) -> int:
    """Numbers of a stored vector: a byte holds two where there are minimums."""
    return parts[0].shape[-1] * (2 if len(parts) == 3 else 1)


def _is_stored(parts: tuple[Array, ...], q: Array) -> bool:
    """Whether the kernel knows the types in which vectors are stored."""
    codes, *scales = parts
    expected = (q.dtype, int8.numpy, uint8.numpy)[len(scales)]
    return codes.dtype == expected and all(
        x.dtype == float16.numpy and _width(parts) % x.shape[-1] == 0 for x in scales
    )


def unit_of(part: Array) -> tuple[int, ...]:
    """How far apart neighbours along the three leading axes are, in vectors; () if that is no whole
    number, or if a vector's numbers have gaps."""
    width, bytes_of_vector = part.shape[-1], part.shape[-1] * part.itemsize
    if (width > 1 and part.strides[-1] != part.itemsize) or any(
        stride % bytes_of_vector for stride in part.strides[:-1]
    ):
        return ()
    return tuple(stride // bytes_of_vector for stride in part.strides[:-1])


def _stored(parts: tuple[Array, ...]) -> tuple[Array | np.int64 | None, ...]:
    """The kernel's `Stored`."""
    groups = parts[1].shape[-1] if len(parts) > 1 else 0
    return (*parts, *[None] * (3 - len(parts)), np.int64(groups))
