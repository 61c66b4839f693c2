"""Python's garbage collector, which stands still while work is recorded or captured."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no reference cycles. What is freed may do work of its own (a text that nobody reads
    on rewinds its cache), which would become part of what is recorded in this thread."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
