"""Memory: freed blocks are kept for the next array, pages of mapped files are given back.

glibc gives large blocks back to the system as they are freed, and each new one comes as pages that
must be zeroed first, one page fault after the other. A training step allocates the same sizes again
and again: that is a tenth of its time. So large blocks stay with the process, up to a limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradient.backends.packed import memory_of

MIB = 1 << 20
LINE = 64
"""Bytes of a line of the cache, and of the widest vector."""
ALIGNED = MIB
"""Bytes of results from which they may begin at one, which takes some 5 us."""
LARGEST = 256 * MIB
"""Blocks above this are still given back at once."""
LARGE = MIB // 4
"""Blocks from this on are, too, where memory is to be `exact`."""
KEPT = 1024 * MIB
"""Free memory at the heap's end above which it is given back."""

# Parameters of mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed() -> bool:
    """Have glibc keep freed blocks; whether it does. A user's own settings are left alone."""
    own = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in own):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    # Older versions take at most 32 MiB for the first.
    kept = libc.mallopt(_M_MMAP_THRESHOLD, LARGEST) or libc.mallopt(_M_MMAP_THRESHOLD, 32 * MIB)
    return bool(kept and libc.mallopt(_M_TRIM_THRESHOLD, KEPT))


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Context: large blocks that do not fit what is free now come from the system, and go back as
    they are freed, so that none lies in the way of others; and what loading a kernel took and no
    longer needs goes back (`trim_if_exact`). The price is what `keep_freed` saves.
    """
    global _exact
    if not keep_freed():
        yield
        return
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    libc.mallopt(_M_MMAP_THRESHOLD, LARGE)
    _exact += 1
    try:
        yield
    finally:
        _exact -= 1
        keep_freed()


def trim() -> None:
    """Give free memory back to the system, as before a large block that is to stay."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc's
            libc.malloc_trim(0)


_exact = 0
"""Contexts of `exact` that are open."""


def trim_if_exact() -> None:
    """`trim`, where memory is to be `exact`."""
    if _exact:
        trim()


def pages(nbytes: int) -> np.ndarray:
    """Bytes that take memory as they are first written, page by page, until they are `release`d."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return np.empty(nbytes, np.uint8)
    mapped = mmap.mmap(-1, max(1, nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(mapped, np.uint8, nbytes)


def use_huge(array: np.ndarray, nbytes: int) -> None:
    """Let the first bytes of `pages` come as huge pages, as NumPy's large arrays do: quicker, where
    most of each will be written."""
    owner = memory_of(array)
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # of a kernel that has none
            owner.madvise(mmap.MADV_HUGEPAGE, 0, nbytes)


class Loan:
    """The owner of an array whose memory is another's, who gets it back when the loan is gone: the
    array, and with it all views of it."""

    lender: Any
    """Whose memory it is stays as long as somebody has it."""


@functools.lru_cache(maxsize=512)  # made in 7 us
def _loan_of(nbytes: int) -> type[Any]:
    names = {"_type_": ctypes.c_char, "_length_": nbytes}
    return type("Loan", (ctypes.Array, Loan), names)


def borrowed(x: np.ndarray) -> tuple[np.ndarray, weakref.ref[Loan]]:
    """An array without gaps in the memory of `x`, with a loan for its `base`: to the engine and to
    users it is one that owns its memory. The loan is alive while it or a view of it is held."""
    loan: Any = _loan_of(x.nbytes).from_address(x.ctypes.data)
    loan.lender = x
    return np.ndarray(x.shape, x.dtype, loan, 0, x.strides), weakref.ref(loan)


def lines(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array, not yet written, that begins at a line of the cache if it is large; to the engine
    and to users it is one that owns its memory."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < ALIGNED:
        return np.empty(shape, dtype)
    block = np.empty(nbytes + LINE, np.uint8)
    address = block.ctypes.data
    loan: Any = _loan_of(nbytes).from_address(address + -address % LINE)
    loan.lender = block
    return np.ndarray(shape, dtype, loan)


def release_pages(mapped: mmap.mmap | bytearray, start: int, stop: int) -> None:
    """Give back the memory of the pages that lie wholly in bytes [start, stop).

    Views of them read the file again when they are used; what was written to them is lost. Nothing
    happens to a `bytearray`, which has no file behind it.
    """
    if isinstance(mapped, bytearray):
        return
    # Whole pages only, as the ones at both ends are shared with other tensors.
    page = mmap.PAGESIZE
    first, last = -(-start // page) * page, stop // page * page
    if first < last and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def release(array: np.ndarray) -> None:
    """`release_pages` for a contiguous array that shows a mapped file and was never written to;
    nothing for any other."""
    owner = memory_of(array)
    if isinstance(owner, mmap.mmap):
        begin = np.frombuffer(owner, np.uint8).ctypes.data
        start = array.ctypes.data - begin
        release_pages(owner, start, start + array.nbytes)
