"""Memory-mapped files: arrays on them take no memory until they are read."""

from __future__ import annotations

import mmap
from io import BytesIO
from typing import IO

from gradient.backends.numpy.memory import release_pages as release_pages

Mapped = mmap.mmap | bytearray


def map_file(file: IO[bytes]) -> Mapped:
    """Map an open file of at least one byte: readable, and writable in memory only.

    The bytes of a `BytesIO` are copied.
    """
    if isinstance(file, BytesIO):
        return bytearray(file.getbuffer())
    try:
        # Copy on write: the arrays can be trained in place, and the file never changes.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError:
        # The kernel may refuse a private writable mapping larger than its memory; reading is free.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
