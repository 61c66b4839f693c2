"""Keeping freed memory for the next array.

glibc gives large blocks back to the system as they are freed, and each new one comes as pages that
must be zeroed first, one page fault after the other. A training step allocates the same sizes again
and again: that is a tenth of its time. So large blocks stay with the process, up to a limit.
"""

from __future__ import annotations

import ctypes
import os
import sys

MIB = 1 << 20
LARGEST = 256 * MIB
"""Blocks above this are still given back at once."""
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
