"""Attention over a key-value cache, given its stored parts and its slots."""

from __future__ import annotations

from typing import Any

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.backends.required import Array
from gradient.dtypes import float32, int64

NO_POSITION = 2**62
"""A position that no query reaches: that of a slot which holds nothing."""


class CachedAttentionDefaults(AttentionDefaults[Array]):
    """Methods of `Backend` that read a key-value cache."""

    @in_float32
    def cached_attention(
        self,
        q: Array,
        keys: tuple[Array, ...],
        values: tuple[Array, ...],
        slots: SlotMap,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> Array:
        """`attention` (B, H, T, E) of queries (B, H, T, D) over a cache's slots, in q's dtype.

        keys and values are stored as parts: (floats,), (codes, scales) or (codes, scales,
        minimums), see `stored_vectors`; `slots` says where they are. Attention is always causal by
        position, whatever `options.is_causal` is.
        """
        k, v, mask, options = self._cache_read(q, keys, values, slots, options)
        return self.attention(q, k, v, mask, options)[0]

    def rope_update(
        self,
        q: Array,
        k: Array,
        v: Array,
        angles: tuple[Array, Array],
        interleaved: bool,
        cache: tuple[Array, Array],
        places: tuple[Array, Array],
    ) -> tuple[Array, Array, Array]:
        """Rotate q (B, H, T, D) and k (B, H_kv, T, D) by `rope` with `angles`, cosines and sines;
        write k and v to the `cache` (rows, H_kv, slots, width), at `places`: rows and slots that
        broadcast to (B, T). Returns q and the cache. Only plans make this call, for kernels that
        compute it in one launch."""
        stored = self.rope(k, *angles, interleaved), v
        where = (places[0], slice(None), places[1])
        for x, new in zip(cache, stored, strict=True):
            self.assign(x, where, self.permute(new, (0, 2, 1, 3)))
        return self.rope(q, *angles, interleaved), *cache

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
        """`rope_update`, then `cached_attention` of its q over the updated cache, read in q's dtype
        by `slots`. Returns the result and the cache. Only plans make this call."""
        q, keys, values = self.rope_update(q, k, v, angles, interleaved, cache, places)
        return self.cached_attention(q, (keys,), (values,), slots, options), keys, values

    @in_float32
    def cached_attention_grad(
        self,
        g: Array,
        q: Array,
        keys: tuple[Array, ...],
        values: tuple[Array, ...],
        slots: SlotMap,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> Array:
        """The gradient for q; the cache is a constant."""
        k, v, mask, options = self._cache_read(q, keys, values, slots, options)
        out, high, log_sum = self.attention(q, k, v, mask, options)
        return self.attention_grad(g, q, k, v, out, high, log_sum, mask, options)[0]

    def stored_vectors(self, parts: tuple[Array, ...], dtype: Any) -> Array:
        """Decode vectors (..., D) from their stored parts.

        (floats,): the vectors themselves. (codes, scales): code * scale, with int8 codes (..., D),
        and float16 scales (..., G), one for each group of D / G. (codes, scales, minimums):
        minimum + code * scale, with codes in uint8 (..., D / 2), whose lower 4 bits are the codes
        of the first half.
        """
        if len(parts) == 1:
            return self.astype(parts[0], dtype)
        codes, *scales = parts
        if len(parts) == 3:
            codes = self.concatenate([codes & 15, codes // 16], -1)
        grouped = (*scales[0].shape, codes.shape[-1] // scales[0].shape[-1])
        x = self.reshape(self.astype(codes, float32.numpy), grouped)
        scale, *low = (self.unsqueeze(self.astype(s, float32.numpy), -1) for s in scales)
        x = x * scale + low[0] if low else x * scale
        return self.astype(self.reshape(x, codes.shape), dtype)

    def _cache_read(
        self,
        q: Array,
        keys: tuple[Array, ...],
        values: tuple[Array, ...],
        slots: SlotMap,
        options: AttentionOptions,
    ) -> tuple[Array, Array, Array | None, AttentionOptions]:
        """The keys and values (B, Hk, S, D), and the mask and options for `attention`."""
        first, extent, window = 0, slots.extent, options.window
        if slots.see_all and window is not None and slots.table is None:
            first = max(0, extent - window)  # one token per row at equal positions needs no mask
            window = None
        k, v = (
            self.stored_vectors(
                tuple(self._cache_slots(part, slots, first) for part in parts), q.dtype
            )
            for parts in (keys, values)
        )
        if slots.fresh:
            return k, v, None, options._replace(is_causal=True)
        mask = None
        if not (slots.see_all and (window is None or window >= extent)):
            mask = self._cache_mask(slots, window)
        return k, v, mask, options._replace(is_causal=False, window=None)

    def _cache_slots(self, part: Array, slots: SlotMap, first: int) -> Array:
        """The slots of a part that are read, (B, Hk, S, w)."""
        part = self.astype(part, part.dtype)  # for TensorBackend, a Tensor
        stop = slots.extent
        if slots.table is None:
            some = slice(slots.offset + first, slots.offset + stop)
            return self.getitem(part, (slice(None), slice(None), some))
        read = self.getitem(slots.table, (slice(None), slice(0, -(-stop // slots.size))))
        pages = self.getitem(part, (read,))  # (B, n, size, Hk, w)
        b, n, size, heads, width = pages.shape
        rows = self.reshape(pages, (b, n * size, heads, width))
        return self.permute(self.getitem(rows, (slice(None), slice(0, stop))), (0, 2, 1, 3))

    def _cache_mask(self, slots: SlotMap, window: int | None) -> Array:
        """The slots that a query sees, bool (B, 1, T, S). It is made once for all layers with the
        same window."""
        key = self.name, window  # TensorBackend's masks are Tensors
        if key not in slots.masks:
            positions = slots.positions
            b, t = positions.shape
            held = self.reshape(self.arange(0, slots.extent, 1, int64.numpy), (1, -1))
            if slots.start is not None:
                held = held + self.unsqueeze(slots.start, 1)
            elif slots.wraps:
                # A slot may hold positions c, c + size, ...: this is the last one written.
                newest = self.getitem(positions, (slice(None), slice(t - 1, t)))
                held = newest - (newest - held) % slots.size
            if slots.start is not None or slots.wraps:
                held = self.where(held < 0, self.full((), NO_POSITION, held.dtype), held)
            held = self.reshape(held, (held.shape[0], 1, 1, slots.extent))
            queries = self.reshape(positions, (b, 1, t, 1))
            mask = held <= queries
            if window is not None:
                mask = mask & (held > queries - window)
            slots.masks[key] = mask
        return slots.masks[key]
