"""The KV cache: the keys and values of earlier tokens, so that each token is computed only once.

A cache has three independent parts:

    KVCache   counts the tokens of its rows, and computes attention over them (this file)
    Layout    where a token's keys and values are stored, its slot: a buffer, a ring, pages
    Codec     how a slot is stored: in the model's dtype, or in 8 or 4 bits

The lengths of the rows are an array on the device. The host keeps a copy of them, to limit the
number of slots that a step reads. Apart from this limit, a step of single tokens is a fixed list of
operations. `block` fixes the limit too: a step then reads whole blocks and masks empty slots, so
one recorded step works for all steps of a block and for rows of any lengths.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypedDict, Unpack

import gradient
from gradient.backends.options import AttentionOptions
from gradient.errors import ArgumentError, AutogradError, TypeMismatch
from gradient.kv_cache import file, paged, sliding, static
from gradient.kv_cache.dtypes import codecs_of
from gradient.kv_cache.layout import Batch, KeyValues, KVCacheSpec, Layout
from gradient.kv_cache.paged import PagePool
from gradient.models.causal_lm import CausalLM, KVShape
from gradient.ops import fused
from gradient.tensor import Device, Tensor

__all__ = ["CacheOptions", "CachedKeyValues", "KVCache", "LAYOUTS"]


class LayoutOptions(TypedDict, total=False):
    """The options of all layouts; `KVCache` describes them."""

    max_rewind: int
    page_size: int
    pages: int | None
    pool: PagePool | None


class CacheOptions(LayoutOptions, total=False):
    """The options of a cache whose shapes, dtype and device are a model's."""

    block: int


class KVCache:
    """The keys and values of all layers, for a batch of rows of different lengths.

    Pass it to a model's forward together with the new tokens:

        cache = KVCache.for_model(model, batch_size=1)
        logits = model(prompt, cache)       # (1, T, V)
        logits = model(next_token, cache)   # (1, 1, V)

    Attributes:
        lengths: (B,) int64 on the device: tokens held by each row.
        counts: the same numbers on the host.
        kind: the layout: "static", "sliding" or "paged" (transformers' `cache_implementation`).
        codecs: the dtypes of stored keys and values (llama.cpp's `type_k`, `type_v`).
        layouts: the buffers, rings or pages. In a sliding cache, layers with the same window share
            one; in others all layers do.
    """

    def __init__(
        self,
        shapes: Sequence[KVShape | tuple[int, int]],
        batch_size: int,
        *,
        kind: str = "static",
        dtype: gradient.DType | str | None = None,
        capacity: int = 0,
        limit: int | None = None,
        block: int = 1,
        device: Device | str | None = None,
        **options: Unpack[LayoutOptions],
    ) -> None:
        """Args:
        shapes: heads, head size and perhaps window of each layer.
        kind: the layout: "static" (a buffer for each layer), "sliding" (layers with a window keep
            little more than that) or "paged" (pages of a pool, shared between rows).
        dtype: the stored dtype: a float dtype or its name, "int8" or "int4"; or one for keys and
            one for values, as in "int8/int4".
        capacity: slots to reserve for each row; the cache grows if more are needed.
        limit: the model's context length, which no row may exceed.
        block: a pass reads a multiple of this number of slots. 1 reads fewest; with more, a
            decoding step can be recorded once and replayed for `block` steps.
        options: those of the layout. "sliding": `max_rewind`, the number of tokens by which it can
            be rewound. "paged": `page_size`, and `pages` (their maximum number) or `pool` (that of
            another cache).
        """
        if block < 1:
            raise ArgumentError(f"cache: block must be at least 1 slot, got {block}")
        self.shapes = [KVShape(*shape) for shape in shapes]
        self.kind = kind
        self.limit = limit
        self.device = device
        self.codecs = codecs_of(gradient.get_default_dtype() if dtype is None else dtype)
        self.counts = [0] * batch_size
        self.lengths = gradient.zeros(batch_size, dtype=gradient.int64, device=device)
        spec = KVCacheSpec(dict(enumerate(self.shapes)), self.codecs, device, block)
        make_layouts = layout_maker(kind, options)
        self.layouts = make_layouts(spec, batch_size, capacity=capacity, **options)
        self.layout_of = {
            layer: number
            for number, layout in enumerate(self.layouts)
            for layer in layout.spec.shapes
        }

    @classmethod
    def for_model(
        cls,
        model: CausalLM,
        batch_size: int,
        capacity: int = 0,
        *,
        kind: str = "static",
        dtype: gradient.DType | str | None = None,
        **options: Unpack[CacheOptions],
    ) -> Self:
        """Return an empty cache of the right shape, dtype and device for `model`.

        Options are those of the constructor.
        """
        return cls(
            model.kv_shapes,
            batch_size,
            kind=kind,
            dtype=model.dtype if dtype is None else dtype,
            capacity=capacity,
            limit=model.context_length,
            device=model.device,
            **options,
        )

    @property
    def batch_size(self) -> int:
        """Return the number of rows."""
        return len(self.counts)

    @property
    def pool(self) -> PagePool | None:
        """Return the page pool of a paged cache, so that other caches can share it."""
        pools = [layout.pool for layout in self.layouts if isinstance(layout, paged.Paged)]
        return pools[0] if pools else None

    @property
    def max_rewind(self) -> int | None:
        """Return the number of tokens by which rows can always be rewound; None: any number."""
        bounds = [layout.max_rewind for layout in self.layouts if layout.max_rewind is not None]
        return min(bounds, default=None)

    @property
    def nbytes(self) -> int:
        """Return the bytes of keys and values, including reserved slots."""
        return sum(layout.nbytes for layout in self.layouts)

    def begin(self, tokens: int, lengths: Sequence[int] | None = None) -> CachedKeyValues:
        """Make room for `tokens` more slots, of which row b's first lengths[b] are real.

        Raises:
            ArgumentError: a row would exceed the model's context; or in a sliding cache, a pass
                that was broken off has overwritten what this one needs: rewind the rows to 0.
        """
        new = [tokens] * self.batch_size if lengths is None else list(lengths)
        if len(new) != self.batch_size:
            raise ArgumentError(
                f"cache: holds {self.batch_size} rows, got {len(new)} rows of tokens"
            )
        self._check_limit(new)
        return CachedKeyValues(self, tokens, new)

    # A replayed pass (`gradient.plan`) repeats the device's work of the recorded one.
    # The host's work in `begin` and `commit` is left to these methods.

    def step_key(self, tokens: int) -> tuple[Any, ...]:
        """Return a key that is equal for passes of `tokens` real tokens per row with equal
        operations."""
        return (
            tokens,
            self.batch_size,
            self.kind,
            self.codecs.name,
            self._extents(tokens, self.counts),
        )

    def equal_steps(self, most: int) -> int:
        """Return how many of the next `most` passes of one token per row have the same `step_key`
        and can be undone by `rewind`; at least 1."""
        if self.max_rewind is not None:
            most = min(most, self.max_rewind)
        extents = self._extents(1, self.counts)
        while most > 1:
            if self._extents(1, [count + most - 1 for count in self.counts]) == extents:
                return most
            most //= 2
        return 1

    def _extents(self, tokens: int, counts: Sequence[int]) -> tuple[int, ...]:
        """Return how many slots each layout reads in a pass over so many tokens after `counts`."""
        return tuple(layout.extent(tokens, counts) for layout in self.layouts)

    @property
    def room(self) -> tuple[Any, ...]:
        """Return the sizes of the layouts; if they are equal, so are the shapes of `tensors`."""
        return tuple(layout.room for layout in self.layouts)

    @property
    def tensors(self) -> list[Tensor]:
        """Return the tensors that a pass reads or writes, always in the same order."""
        return [self.lengths, *(part for layout in self.layouts for part in layout.tensors)]

    def make_room(self, tokens: int) -> None:
        """Make room for `tokens` more of each row, as `begin` does."""
        new = [tokens] * self.batch_size
        self._check_limit(new)
        for layout in self.layouts:
            layout.make_room(tokens, self.counts, new)

    def set_counts(self, counts: Sequence[int], on_device: bool = True) -> None:
        """Set the number of tokens in each row; with `on_device=False` on the host only."""
        self.counts = list(counts)
        if on_device:
            # In place: a recorded step finds the lengths where they were when it was recorded.
            self.lengths[:] = gradient.tensor(self.counts, dtype=gradient.int64, device=self.device)

    def _check_limit(self, new_counts: Sequence[int]) -> None:
        after = [held + more for held, more in zip(self.counts, new_counts, strict=True)]
        if self.limit is not None and max(after) > self.limit:
            raise ArgumentError(
                f"{max(after)} tokens do not fit the model's context of {self.limit}: shorten the "
                f"text, or begin anew from its last part"
            )

    @gradient.no_grad()
    def select(self, rows: Sequence[int]) -> Self:
        """Return a cache of these rows, in this order; a row may occur several times or not at all.

        The two caches are independent afterwards.
        """
        self._check_rows(rows)
        chosen = type(self).__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        chosen.counts = [self.counts[row] for row in rows]
        chosen.lengths = gradient.tensor(chosen.counts, dtype=gradient.int64, device=self.device)
        chosen.layouts = [layout.select(rows, chosen.counts) for layout in self.layouts]
        return chosen

    @gradient.no_grad()
    def join(self, *others: KVCache) -> Self:
        """Return a cache of these rows and those of other caches, one after another.

        With `select`, rows can join and leave a running batch. The caches do not change; their
        content is copied, except for paged caches, which must have the same pool.

        Raises:
            ArgumentError: they differ in kind, dtype or shapes.
        """
        caches: list[KVCache] = [self, *others]
        if len({(each.kind, each.codecs.name, *each.shapes) for each in caches}) > 1:
            raise ArgumentError(
                "join: caches must be alike in kind, dtype and shapes, got "
                + ", ".join(f"{each.kind} of {each.codecs.name}" for each in caches)
            )
        joined = type(self).__new__(type(self))
        joined.__dict__.update(self.__dict__)
        joined.counts = [count for each in caches for count in each.counts]
        joined.lengths = gradient.tensor(joined.counts, dtype=gradient.int64, device=self.device)
        joined.layouts = [
            layout.join([each.layouts[number] for each in others], [c.counts for c in caches])
            for number, layout in enumerate(self.layouts)
        ]
        return joined

    @gradient.no_grad()
    def rewind(self, counts: Sequence[int]) -> None:
        """Forget each row's last tokens, so that row b holds its first counts[b].

        Raises:
            ArgumentError: a row has fewer tokens; or its layout has dropped slots that the next
                token would need (see `gradient.kv_cache.sliding`). The cache is not changed.
        """
        counts = list(counts)
        if len(counts) != self.batch_size or not all(
            0 <= kept <= held for kept, held in zip(counts, self.counts, strict=False)
        ):
            raise ArgumentError(
                f"rewind: expected a count from 0 to what each row holds, {self.counts}, "
                f"got {counts}"
            )
        for layout in self.layouts:
            layout.rewind(counts)
        self.set_counts(counts)

    def save(
        self, path: str | os.PathLike[str], model: CausalLM, tokens: Sequence[Sequence[int]]
    ) -> None:
        """Write the content of the rows to a file, atomically.

        Args:
            model: the model that filled the cache; only the same model can load the file.
            tokens: the token ids that each row holds.

        Raises:
            CheckpointError: the disk is full or failing; an older file at `path` is unchanged.
        """
        file.save(self, path, model, tokens)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: CausalLM,
        *,
        kind: str = "static",
        dtype: gradient.DType | str | None = None,
        **options: Unpack[CacheOptions],
    ) -> tuple[Self, list[list[int]]]:
        """Return the cache in a file, and the tokens of its rows.

        Args:
            kind, options: those of the new cache; they may differ from the saved one's.
            dtype: None: the saved one. Another dtype rounds once more.

        Raises:
            ModelNotFound: there is no such file.
            FileFormatError: it is truncated, damaged, or not a saved cache.
            ArgumentError: it was saved from another model, or from one with other weights.
        """
        saved = file.read(path, model)
        longest = max(len(ids) for ids in saved.tokens)
        stored = saved.codecs.name if dtype is None else dtype
        cache = cls.for_model(model, len(saved.tokens), longest, kind=kind, dtype=stored, **options)
        file.fill(cache, saved)
        return cache, saved.tokens

    def _check_rows(self, rows: Sequence[int]) -> None:
        wrong = [row for row in rows if not 0 <= row < self.batch_size]
        if wrong:
            raise ArgumentError(f"select: expected rows 0 to {self.batch_size - 1}, got {wrong}")


class CachedKeyValues:
    """The `PastKeyValues` of a `KVCache`: one forward pass over it."""

    def __init__(self, cache: KVCache, tokens: int, new_counts: list[int]) -> None:
        self.cache = cache
        device = cache.device
        offsets = gradient.arange(tokens, device=device)
        padded = any(real != tokens for real in new_counts)
        new_lengths: Tensor | int = tokens
        if padded:
            added = gradient.tensor(new_counts, dtype=gradient.int64, device=device)
            new_lengths = added.unsqueeze(1)
        self.batch = Batch(
            tokens=tokens,
            counts=cache.counts,
            new_counts=new_counts,
            lengths=cache.lengths,
            positions=cache.lengths.unsqueeze(1) + offsets,  # (B, T)
            rows=gradient.arange(cache.batch_size, device=device).unsqueeze(1),  # (B, 1)
            new_lengths=new_lengths,
            real=offsets < new_lengths if padded else None,  # (B, T)
        )
        with gradient.no_grad():
            self.slots = [layout.allocate_slots(self.batch) for layout in cache.layouts]

    @property
    def positions(self) -> Tensor:
        """(B, T): a token's position in its row; padding beyond the context gets its last one."""
        limit = self.cache.limit
        if limit is None or self.batch.end <= limit:
            return self.batch.positions
        return self.batch.positions.clamp(max=limit - 1)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Store a layer's new keys and values, and attend to all: see `PastKeyValues.attend`."""
        if key.requires_grad or value.requires_grad:
            raise AutogradError(
                "the key-value cache keeps no gradients: call the model under gradient.no_grad() "
                "or gradient.inference_mode(), or, to train, without a cache"
            )
        codecs = self.cache.codecs
        slots = self.slots[self.cache.layout_of[layer]]
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        # Attention reads stored values, also those of the new tokens: so the number of
        # passes for a text makes no difference.
        new = KeyValues(codecs.keys.encode(key), codecs.values.encode(value))
        keys, values = slots.update(layer, new, window)
        return fused.cached_attention(
            query,
            keys=tuple(part.array for part in keys),
            values=tuple(part.array for part in values),
            slots=slots.map,
            options=AttentionOptions(scale, True, window, softcap),
        )

    def commit(self) -> None:
        """Count the tokens as held.

        Until then, a failed step has changed nothing. In a sliding cache this is true for up to
        max_rewind + 1 tokens: after more, `begin` may raise until the rows are rewound to 0.
        """
        cache, batch = self.cache, self.batch
        cache.counts = [
            held + more for held, more in zip(cache.counts, batch.new_counts, strict=True)
        ]
        new_lengths = batch.new_lengths
        # In place: a recorded step finds the lengths where they were when it was recorded.
        cache.lengths += new_lengths.squeeze(1) if isinstance(new_lengths, Tensor) else new_lengths


#: The layouts by their names in options.
LAYOUTS: dict[str, Callable[..., list[Layout]]] = {
    "static": static.make_layouts,
    "sliding": sliding.make_layouts,
    "paged": paged.make_layouts,
}


def layout_maker(kind: str, options: Mapping[str, Any]) -> Callable[..., list[Layout]]:
    """Return the function that makes the layouts of a kind of cache; check its options."""
    if kind not in LAYOUTS:
        raise ArgumentError(f"cache: expected one of {', '.join(LAYOUTS)}, got {kind!r}")
    known = list(inspect.signature(LAYOUTS[kind]).parameters)[2:]
    wrong = [name for name in options if name not in known]
    if wrong:
        raise TypeMismatch(
            f"cache: a {kind} one has no option {', '.join(map(repr, wrong))} "
            f"(options: {', '.join(known)})"
        )
    return LAYOUTS[kind]
