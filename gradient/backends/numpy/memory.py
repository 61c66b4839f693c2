"""Memory: keep freed blocks for the next array, and release pages of mapped files.

glibc returns large blocks to the system when they are freed. A new block is then made of new pages,
which the system clears, with a page fault for each. A training step allocates the same sizes again
and again: this costs a tenth of its time. So the process keeps large blocks, up to a limit.
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
    """Let glibc keep freed blocks; return whether it does. A user's own settings are respected."""
    own = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in own):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    # Older versions accept at most 32 MiB for the first.
    kept = libc.mallopt(_M_MMAP_THRESHOLD, LARGEST) or libc.mallopt(_M_MMAP_THRESHOLD, 32 * MIB)
    return bool(kept and libc.mallopt(_M_TRIM_THRESHOLD, KEPT))


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Context in which large blocks that do not fit free memory come from the system, and are
    returned when they are freed, so that the heap is not fragmented. Temporary memory of loading
    kernels is returned too (`trim_if_exact`). The cost is the time that `keep_freed` saves.
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
    """Return free memory to the system, for example before a large lasting block is allocated."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # only glibc
            libc.malloc_trim(0)


_exact = 0
"""Contexts of `exact` that are open."""


def trim_if_exact() -> None:
    """`trim`, within `exact`."""
    if _exact:
        trim()


def pages(nbytes: int) -> np.ndarray:
    """Bytes whose pages take memory only from their first write until `release`."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return np.empty(nbytes, np.uint8)
    mapped = mmap.mmap(-1, max(1, nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(mapped, np.uint8, nbytes)


def use_huge(array: np.ndarray, nbytes: int) -> None:
    """Use huge pages for the first bytes of `pages`, as NumPy does for large arrays: faster, if
    most of each page will be written."""
    owner = memory_of(array)
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # the system has no huge pages
            owner.madvise(mmap.MADV_HUGEPAGE, 0, nbytes)


class Loan:
    """The `base` of an array in borrowed memory. The lender can reuse the memory when the loan is
    freed, that is, when the array and all its views are gone."""

    lender: Any
    """Whose memory it is stays as long as somebody has it."""


@functools.lru_cache(maxsize=512)  # making one takes 7 us
def _loan_of(nbytes: int) -> type[Any]:
    names = {"_type_": ctypes.c_char, "_length_": nbytes}
    return type("Loan", (ctypes.Array, Loan), names)


def borrowed(x: np.ndarray) -> tuple[np.ndarray, weakref.ref[Loan]]:
    """A contiguous array in the memory of x, with a loan as its `base`; the engine and users treat
    it as the owner of its memory. The loan lives while the array or a view of it is referenced."""
    loan: Any = _loan_of(x.nbytes).from_address(x.ctypes.data)
    loan.lender = x
    return np.ndarray(x.shape, x.dtype, loan, 0, x.strides), weakref.ref(loan)


def lines(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that starts at a cache line if it is large; the engine and users treat
    it as the owner of its memory."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < ALIGNED:
        return np.empty(shape, dtype)
    block = np.empty(nbytes + LINE, np.uint8)
    address = block.ctypes.data
    loan: Any = _loan_of(nbytes).from_address(address + -address % LINE)
    loan.lender = block
    return np.ndarray(shape, dtype, loan)


def release_pages(mapped: mmap.mmap | bytearray, start: int, stop: int) -> None:
    """Release the memory of the pages that lie completely in bytes [start, stop).

    Views of them read the file again at their next use; changes are lost. A `bytearray`, which has
    no file, is left unchanged.
    """
    if isinstance(mapped, bytearray):
        return
    # Only whole pages: those at both ends are shared with other tensors.
    page = mmap.PAGESIZE
    first, last = -(-start // page) * page, stop // page * page
    if first < last and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def first_byte(array: np.ndarray) -> int:
    """The address of an array's first byte in memory, which is that of the last element along axes
    with negative strides."""
    before = sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)
                 if step < 0 < n)  # fmt: skip
    first: int = array.__array_interface__["data"][0]
    return first + before


def release(array: np.ndarray) -> None:
    """`release_pages` for an array without gaps on a mapped file that was never written to; other
    arrays are left unchanged."""
    owner = memory_of(array)
    if isinstance(owner, mmap.mmap):
        begin = np.frombuffer(owner, np.uint8).ctypes.data
        start = first_byte(array) - begin
        release_pages(owner, start, start + array.nbytes)
