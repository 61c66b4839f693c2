"""The paged layout: slots in pages of a pool, and for each row a table of its pages.

Like the memory pages of an operating system (Kwon et al. 2023, "Efficient Memory Management for
Large Language Model Serving with PagedAttention", sections 4.1 to 4.4): a row takes a page from the
pool when it needs one, so nothing is reserved for tokens that may never come. Rows share the pages
of their common beginning, and copy a page only when they write to it. So beams and prompts with a
common beginning need no copy and no additional memory: `select` counts references.

Dimensions: P pages of the pool, p slots of a page, n pages of the longest row.

Pages have the shape (P, p, H, w), so that a row's pages, one after another, are its slots
without a transpose. Page 0 belongs to no row and holds zeros: padding is written there, as zeros,
and table entries without a page point there.

One pool may serve several caches of a model (`KVCache.pool`), whose rows come and go.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import gradient
from gradient.backends.options import SlotMap
from gradient.errors import ArgumentError, CacheFull
from gradient.kv_cache.layout import (
    Batch,
    Buffers,
    KeyValues,
    KVCacheSpec,
    Layout,
    Slots,
    index_of,
    round_up,
)
from gradient.tensor import Tensor

__all__ = ["PagePool"]


class PagePool(Buffers):
    """Pages of slots for every layer, counted by reference.

    Attributes:
        page_size: p, slots of a page.
        pages: the maximum number of pages in use; None: limited by memory.
        references: the number of tables with each page; page 0 is the common one of zeros.
    """

    axis = 0

    def __init__(self, spec: KVCacheSpec, page_size: int = 16, pages: int | None = None) -> None:
        if page_size < 1 or (pages is not None and pages < 1):
            raise ArgumentError(
                f"cache: page_size and pages must be at least 1, got {page_size} and {pages}"
            )
        self.spec = spec
        self.page_size = page_size
        self.pages = pages
        self.references = [1]
        self.free: list[int] = []
        self._allocate(1 if pages is None else 1 + pages)  # with a limit, all of it now

    @property
    def used(self) -> int:
        """Return the pages in use, each counted once."""
        return len(self.references) - 1 - len(self.free)

    def allocate(self, count: int) -> list[int]:
        """Return `count` pages of zeros, each with one reference.

        Raises:
            CacheFull: fewer pages are left; then none is taken.
        """
        if self.pages is not None and self.used + count > self.pages:
            raise CacheFull(
                f"paged cache: {count} more pages of {self.page_size} tokens are needed, and "
                f"{self.pages - self.used} of {self.pages} are free: end or drop some rows, or "
                f"give the pool more pages"
            )
        # Taken at once: the garbage collector may free a dropped cache anywhere below, and
        # append its pages to the list.
        taken = [self.free.pop() for _ in range(min(count, len(self.free)))]
        new = range(len(self.references), len(self.references) + count - len(taken))
        try:
            self._reserve(new.stop)
            if taken:  # old content must not be read, as nan times 0 is nan
                index = index_of(taken, self.spec.device)
                for part in self.tensors:
                    part[index] = 0
        except BaseException:  # Ctrl-C, or no memory
            self.free.extend(taken)
            raise
        self.references.extend(0 for _ in new)
        taken.extend(new)
        for page in taken:
            self.references[page] = 1
        return taken

    def share(self, pages: Sequence[int]) -> None:
        """Count one more reference to each of these pages."""
        for page in pages:
            self.references[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """Count one reference less; a page without references is free."""
        for page in pages:
            self.references[page] -= 1
            if self.references[page] == 0:
                self.free.append(page)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy pages to other pages."""
        old, new = (index_of(pages, self.spec.device) for pages in (sources, targets))
        for part in self.tensors:
            part[new] = part[old]

    def _shape(self, heads: int, capacity: int) -> tuple[int, ...]:
        return capacity, self.page_size, heads

    def _reserve(self, pages: int) -> None:
        if pages <= self.capacity:
            return
        self._grow(max(pages, 2 * self.capacity))


class Paged(Layout):
    """Rows as tables of pages.

    Attributes:
        tables: each row's pages, on the host.
        table: the same on the device, (B, n), 0 for no page.
    """

    def __init__(self, pool: PagePool, tables: list[list[int]], table: Tensor) -> None:
        """Args:
        tables: each row's pages; their references now belong to this layout.
        """
        self.pool = pool
        self.spec = pool.spec
        self.tables = tables
        self.table = table
        # A dropped cache returns its pages.
        weakref.finalize(self, _release, pool, tables).atexit = False

    def allocate_slots(self, batch: Batch) -> PagedSlots:
        """See `Layout.allocate_slots`.

        Raises:
            CacheFull: the pool has too few pages left.
        """
        self.make_room(batch.tokens, batch.counts, batch.new_counts)
        return PagedSlots(self, batch)

    def make_room(self, tokens: int, counts: Sequence[int], new_counts: Sequence[int]) -> None:
        self._reserve(-(-self.extent(tokens, counts) // self.pool.page_size))
        self._allocate_pages(counts, new_counts)

    def extent(self, tokens: int, counts: Sequence[int]) -> int:
        """Return how many slots a pass reads: whole blocks."""
        return round_up(max(counts) + tokens, self.spec.block)

    @property
    def room(self) -> tuple[int, ...]:
        """Return the number of the pool's pages, and of a table's entries for a row."""
        return (self.pool.capacity, self.table.shape[1])

    @property
    def tensors(self) -> list[Tensor]:
        """Return the table, and the pool's pages."""
        return [self.table, *self.pool.tensors]

    def select(self, rows: Sequence[int], counts: Sequence[int]) -> Paged:
        """See `Layout.select`. Pages are shared, not copied."""
        tables = [list(self.tables[row]) for row in rows]
        for pages in tables:
            self.pool.share(pages)
        return Paged(self.pool, tables, self.table[index_of(rows, self.spec.device)])

    def join(self, others: Sequence[Paged], counts: Sequence[Sequence[int]]) -> Paged:
        """See `Layout.join`. Pages are shared, not copied."""
        layouts = [self, *others]
        if any(layout.pool is not self.pool for layout in layouts):
            raise ArgumentError("join: paged caches must be of one pool; see KVCache's pool=")
        width = max(layout.table.shape[1] for layout in layouts)
        for layout in layouts:
            layout._reserve(width)
        tables = [list(pages) for layout in layouts for pages in layout.tables]
        for pages in tables:
            self.pool.share(pages)
        joined = gradient.cat([layout.table[:, :width] for layout in layouts])
        return Paged(self.pool, tables, joined)

    def rewind(self, counts: Sequence[int]) -> None:
        for row, count in enumerate(counts):
            kept = -(-count // self.pool.page_size)
            beyond = self.tables[row][kept:]
            if beyond:
                self.pool.release(beyond)
                del self.tables[row][kept:]
                self.table[row, kept:] = 0

    def read(self, layer: int, row: int, start: int, stop: int) -> KeyValues:
        positions = gradient.arange(start, stop, device=self.spec.device)
        pages = self.table[row][positions // self.pool.page_size]
        index = (pages, positions % self.pool.page_size)
        return KeyValues(
            *(
                tuple(part[index].transpose(0, 1) for part in buffers[layer])
                for buffers in (self.pool.keys, self.pool.values)
            )
        )

    @property
    def nbytes(self) -> int:
        """Return the bytes of the pool."""
        return self.pool.nbytes

    def _allocate_pages(self, counts: Sequence[int], new_counts: Sequence[int]) -> None:
        """Give every row its own copy of the pages that it will write to."""
        size = self.pool.page_size
        references: dict[int, int] = {}  # the counts after the copies of earlier rows
        places: list[tuple[int, int]] = []  # (row, entry of its table)
        shared: list[tuple[int, int]] = []
        for row, (held, new) in enumerate(zip(counts, new_counts, strict=True)):
            pages = self.tables[row]
            last = -(-(held + new) // size)
            written = range(held // size, min(len(pages), last)) if new else ()
            for entry in written:
                page = pages[entry]
                others = references.setdefault(page, self.pool.references[page]) - 1
                if others:
                    references[page] = others
                    shared.append((row, entry))
            places += [(row, entry) for entry in range(len(pages), last)]
        if not places and not shared:
            return
        taken = self.pool.allocate(len(places) + len(shared))
        if shared:
            old = [self.tables[row][entry] for row, entry in shared]
            try:
                self.pool.copy(old, taken[: len(shared)])
            except BaseException:  # Ctrl-C, or no memory: they would be lost
                self.pool.release(taken)
                raise
            self.pool.release(old)
        for (row, entry), page in zip(shared + places, taken, strict=True):
            self.tables[row][entry : entry + 1] = [page]
        rows, entries = zip(*(shared + places), strict=True)
        device = self.spec.device
        self.table[index_of(rows, device), index_of(entries, device)] = index_of(taken, device)

    def _reserve(self, entries: int) -> None:
        rows, held = self.table.shape
        if entries <= held:
            return
        grown = gradient.zeros(
            (rows, max(entries, 2 * held)), dtype=gradient.int64, device=self.spec.device
        )
        if held:
            grown[:, :held] = self.table
        self.table = grown


def make_layouts(
    spec: KVCacheSpec,
    batch_size: int,
    *,
    capacity: int = 0,
    page_size: int = 16,
    pages: int | None = None,
    pool: PagePool | None = None,
) -> list[Layout]:
    """Return the layouts of a paged cache: one for all layers, with `pool` or its own pool.

    Nothing is reserved: `capacity` has no effect.
    """
    if pool is None:
        pool = PagePool(spec, page_size, pages)
    elif (pool.spec.shapes, pool.spec.codecs.name, pool.spec.device) != (
        spec.shapes, spec.codecs.name, spec.device,
    ):  # fmt: skip
        raise ArgumentError("cache: the pool was made for another model, dtype or device")
    table = gradient.zeros((batch_size, 0), dtype=gradient.int64, device=spec.device)
    return [Paged(pool, [[] for _ in range(batch_size)], table)]


class PagedSlots(Slots):
    """The slots of one batch in pages."""

    def __init__(self, layout: Paged, batch: Batch) -> None:
        self.layout = layout
        self.batch = batch
        block, size = layout.spec.block, layout.pool.page_size
        self.page = layout.table[batch.rows, batch.positions // size]  # (B, T)
        self.offset = batch.positions % size  # (B, T)
        if batch.real is not None:
            self.page = gradient.where(batch.real, self.page, 0)
        # Single tokens of rows of one length, which read no slot too many, see all they read.
        see_all = batch.tokens == 1 and batch.equal_lengths and block == 1
        self.map = (
            batch.fresh_map()
            if batch.fresh
            else SlotMap(
                batch.positions.array,
                layout.extent(batch.tokens, batch.counts),
                size,
                {},
                layout.table.array,
                see_all=see_all,
            )
        )

    def update(self, layer: int, new: KeyValues, window: int | None) -> KeyValues:
        pool = self.layout.pool
        buffers = KeyValues(pool.keys[layer], pool.values[layer])
        for stored, added in zip(buffers, new, strict=True):
            for buffer, part in zip(stored, added, strict=True):
                part = part.transpose(1, 2)  # (B, T, H, w)
                if self.batch.real is not None:
                    part = gradient.where(self.batch.real.unsqueeze(-1).unsqueeze(-1), part, 0)
                buffer[self.page, self.offset] = part
        return new if self.batch.fresh else buffers


def _release(pool: PagePool, tables: list[list[int]]) -> None:
    for pages in tables:
        pool.release(pages)
