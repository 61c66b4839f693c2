"""Attention over a key-value cache, read where it lies by a kernel while few queries come."""

from __future__ import annotations

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.cached_attention import CachedAttentionDefaults
from gradient.backends.cuda.attention import MAX_WIDTH, ROWS, columns_of, shared_bytes
from gradient.backends.cuda.attention_problem import (
    BLOCK,
    Kernel,
    parts_of_keys,
    strides,
    window_of,
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
        first, window = 0, window_of(options)
        if slots.see_all and window and not paged:
            first, window = max(0, slots.extent - window), 0
        see_all = slots.see_all and (not window or window >= slots.extent)
        of_group = h // key_heads * t
        in_pieces = self._cache_lies_in_pieces(q, keys, values)
        kernel = self._cache_kernel(q, of_group, d, e, in_pieces)
        many = kernel.family == "flash_cached_attention"
        parts_of = parts_of_keys if many else self.parts_of_decoding
        grid = self._grid(kernel, parts_of, of_group, b * key_heads, slots.extent - first)
        out = self.empty((b, h, t, e), q.dtype)
        partial = self._room_for_parts(grid[2], out, number)
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
            *map(np.int64, (grid[2], h, key_heads, t, slots.extent, d, e)),
            np.float64(options.scale), np.float64(options.softcap or 0),
        )  # fmt: skip
        q = self._in_pieces(q) if in_pieces else self.contiguous(q)
        of_q = map(np.int64, strides(q, 3) if in_pieces else ())
        self.launch(
            kernel.family, kernel.name, q, grid, BLOCK, q, *of_q, *given, shared=kernel.shared,
            early=kernel.family == "decode_cached_attention",
        )  # fmt: skip
        self._join(partial, out, None, None)
        return out

    def _cache_kernel(self, q: Array, rows: int, d: int, e: int, in_pieces: bool) -> Kernel:
        """The kernel for so many rows of a group."""
        if not in_pieces:
            shared = shared_bytes(np.dtype(computed_in(q)), d, e)
            return Kernel("cached_attention", f"cached_attention_{columns_of(e)}", ROWS, shared)
        if q.dtype == np.float32:
            head, of_block = float32_head_of(d, e), float32_rows_of(rows)
            name = f"cached_attention_decode_{head}_{of_block}"
            return Kernel("attention_decode_float32", name, of_block, 0)
        head = head_of(max(d, e))
        if rows <= FEW_ROWS:
            family, of_block = "decode_cached_attention", ROWS
            shared = tiles_bytes(head, rows_of_decoding(head))
        else:
            family, (of_block, of_tile) = "flash_cached_attention", tiles_of(head)
            shared = tiles_bytes(head, of_block + 4 * of_tile) + 2 * of_tile * PLACE
        return Kernel(family, f"{family}_{head}", of_block, shared)

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
                or (q.dtype in HALF_PRECISION and self._cache_lies_in_pieces(q, keys, values))
            )
            and self.fits_block(number, d, e)
            and q.shape[0] * key_heads <= MAX_GRID
            and all(_is_stored(parts, q) for parts in (keys, values))
            and all(unit_of(part) == unit_of(keys[0]) != () for part in (*keys, *values))
            and slots.positions.dtype == np.int64
        )

    def _cache_lies_in_pieces(
        self, q: Array, keys: tuple[Array, ...], values: tuple[Array, ...]
    ) -> bool:
        """Whether kernels with tiles read it: 16-bit floats, float32 of up to 128 columns, or
        codes, of which as many as 16 bytes of q have numbers lie together and have one scale."""
        piece = LOAD // q.itemsize
        return (
            (q.dtype in HALF_PRECISION or q.dtype == np.float32)
            and self.runtime.has_tensor_cores
            and (q.dtype != np.float32 or max(_width(keys), _width(values)) <= 128)
            and all(
                _width(parts) % (2 * piece if len(parts) == 3 else piece) == 0
                and all(_width(parts) // scales.shape[-1] % piece == 0 for scales in parts[1:])
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
