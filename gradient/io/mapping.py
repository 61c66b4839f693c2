"""Files mapped into memory: arrays on them take no memory until they are read."""

from __future__ import annotations

import mmap
from typing import IO


def map_file(file: IO[bytes]) -> mmap.mmap:
    """Map an open file of at least one byte: readable, and writable in memory only."""
    try:
        # Copy on write: the arrays can be trained in place, and the file never changes.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError:
        # The kernel may refuse a private writable mapping larger than its memory; reading is free.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def release_pages(mapped: mmap.mmap, start: int, stop: int) -> None:
    """Give back the memory of the pages that lie wholly in bytes [start, stop).

    Views of them read the file again when they are used; what was written to them is lost.
    """
    # Whole pages only, as the ones at both ends are shared with other tensors.
    page = mmap.PAGESIZE
    first, last = -(-start // page) * page, stop // page * page
    if first < last and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)
