"""Kernels that a command compiles at its first use, with helpers where there is memory for them."""

from __future__ import annotations

from gradient.backends.numpy import ahead
from gradient.io import free_memory

ENOUGH = 2 << 30
"""Free bytes: helpers take a half."""


def expect(work: str) -> None:
    """See `ahead.expect`."""
    free = free_memory.available()
    if free is None or free >= ENOUGH:
        ahead.expect(work)
