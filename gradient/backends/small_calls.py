"""Whether small calls go to kernels, too, because they come again and again.

A backend leaves what is small to quick library calls, as a short script should not wait for its
kernels to be loaded. A step of decoding is repeated for every token, and is recorded as a list of
kernels (`gradient.plan`): there it pays for any size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_threads: set[int] = set()


def are_repeated() -> bool:
    """Whether the calls of this thread are taken to be repeated."""
    return bool(_threads) and threading.get_ident() in _threads


@contextmanager
def repeated() -> Iterator[None]:
    """Have this thread's calls inside computed by kernels, however small they are.

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
