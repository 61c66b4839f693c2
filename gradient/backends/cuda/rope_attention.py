"""A decoder's rotary positions, write to its cache and attention, by one kernel."""

from __future__ import annotations

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.attention_problem import BLOCK, strides, window_of
from gradient.backends.cuda.cache_updates import CacheUpdateKernels
from gradient.backends.cuda.cached_attention import CachedAttentionKernels
from gradient.backends.cuda.flash_attention import HEADS, rows_of_decoding, tiles_bytes
from gradient.backends.cuda.launching import LOAD
from gradient.backends.cuda.tiled_attention import FEW_ROWS
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.dtypes import HALF_PRECISION


class RopeAttentionKernels(CacheUpdateKernels, CachedAttentionKernels):
    """An override of `rope_attention`."""

    def rope_attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        angles: tuple[Array, Array],
        interleaved: bool,
        cache: tuple[Array, Array],
        places: tuple[Array, Array],
        slots: SlotMap,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[Array, Array, Array]:
        keys, values = cache
        if not self._rotates_alone(q, k, v, angles, cache, places, slots):
            return super().rope_attention(
                q, k, v, angles, interleaved, cache, places, slots, options
            )
        (_, h, _, d), key_heads = q.shape, k.shape[1]
        parts = self.parts_of_decoding(key_heads, slots.extent)
        out = self.empty(q.shape, q.dtype)
        partial = self._room_for_parts(parts, out, np.dtype(np.float32))
        heads = [(x, np.int64(strides(x, 2)[1])) for x in (q, k, v)]
        self.launch(
            "rope_attention", f"rope_attention_{d}", q, (1, key_heads, parts), BLOCK,
            *(part for each in heads for part in each), *angles,
            np.int64(angles[0].shape[-1]), np.int64(interleaved),
            places[1], keys, values, np.int64(keys.shape[2]),
            slots.positions, np.int64(window_of(options)), out, partial,
            *map(np.int64, (parts, h, key_heads, slots.extent)),
            np.float64(options.scale), np.float64(options.softcap or 0),
            shared=tiles_bytes(d, rows_of_decoding(d)), early=True,
        )  # fmt: skip
        self._join(partial, out, None, None)
        return out, *cache

    def _rotates_alone(
        self,
        q: Array,
        k: Array,
        v: Array,
        angles: tuple[Array, Array],
        cache: tuple[Array, Array],
        places: tuple[Array, Array],
        slots: SlotMap,
    ) -> bool:
        """Whether the kernel takes it: one query, whose key goes to the one row of a cache of
        16-bit floats in slots that follow one another, all of it in whole loads."""
        if not self._has_update(q, k, v, angles, cache, places):
            return False
        (b, h, t, d), (rows, key_heads, room, _) = q.shape, cache[0].shape
        half, pack = angles[0].shape[-1], LOAD // q.itemsize
        return (
            b == t == rows == 1
            and d == v.shape[-1]
            and d in HEADS
            and h <= FEW_ROWS * key_heads
            and half % pack == 0
            and slots.extent <= room
            and not (slots.offset or slots.wraps or slots.see_all)
            and slots.table is None
            and slots.start is None
            and self._reads_cache(q, cache[:1], cache[1:], slots)
            and q.dtype in HALF_PRECISION
            and self._cache_lies_in_pieces(q, cache[:1], cache[1:])
            and slots.positions.flags.c_contiguous
            and all(a.flags.c_contiguous for a in angles)
            and all(
                x.strides[-1] == x.itemsize
                and x.strides[1] % LOAD == 0
                and self.runtime.address(x) % LOAD == 0
                for x in (q, k, v, *(a.reshape(1, 1, 1, half) for a in angles))
            )
        )
