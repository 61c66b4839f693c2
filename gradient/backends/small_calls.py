"""Whether kernels compute small calls too, because the calls are repeated.

By default a backend computes small calls by library functions, so that a short script need not wait
for kernels to load. But a decoding step is repeated for every token, and is recorded as a list of
kernels (`gradient.plan`): there kernels pay at any size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_threads: set[int] = set()


def are_repeated() -> bool:
    """Whether this thread's calls are assumed to be repeated."""
    return bool(_threads) and threading.get_ident() in _threads


@contextmanager
def repeated() -> Iterator[None]:
    """Context in which kernels compute this thread's calls, of any size.

    Results may differ from those outside by rounding.
    """
    thread = threading.get_ident()
    if thread in _threads:
        yield
        return
    _threads.add(thread)
    try:
        yield
    finally:
        _threads.discard(thread)
