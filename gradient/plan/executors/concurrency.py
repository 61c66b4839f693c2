"""Tasks that can run beside the one before: neither writes what the other reads or writes.

Threads go from one such task to the next without a barrier. So no thread is idle during the last
chunk of a product, and small tasks fill the rest of a large task's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.plan.executors.program import Step, concurrent_task, early, task

LARGE = 1 << 16
"""A task of one chunk that reads and writes fewer bytes follows a task of one chunk on the same
thread, which needs no wait, rather than run beside it on another."""

MOST = 64
"""The number of arrays of concurrent tasks after which no task is added to them."""


class Accesses(NamedTuple):
    """The arrays that a call only reads, and those that it writes."""

    read: Sequence[np.ndarray]
    written: Sequence[np.ndarray]


class _Span(NamedTuple):
    """The memory from an array's first byte to its last."""

    start: int
    stop: int
    written: bool = False

    def meets(self, other: _Span) -> bool:
        return self.start < other.stop and other.start < self.stop


def with_concurrency(steps: Sequence[Step], touched: Sequence[Accesses]) -> list[Step]:
    """Return the steps, with `concurrent_task` for each task that may run beside those before it,
    back to the last one with a barrier. `touched` has the reads and writes of each step's call; any
    other array of a task counts as written. The two parts of a plan are passed separately: their
    tasks are separate lists."""
    found: list[Step] = []
    group: list[_Span] = []
    items = 0  # of the group: each is run by one thread
    for step, arrays in zip(steps, touched, strict=True):
        function, given = step
        if function is not task:
            if function is not early:  # which is not run between tasks
                group, items = [], 0
            found.append(step)
            continue
        spans, chunks = _spans(given, arrays), -(-given[1] // given[2])
        if not chunks:  # nothing to run, so no barrier
            found.append((concurrent_task, given))
            continue
        few = chunks == 1 and sum(each.stop - each.start for each in spans) < LARGE
        follows = chunks == 1 and items == 1  # if it must wait: it runs on the same thread
        if not group or len(group) > MOST or (few and follows) or _conflict(group, spans):
            # What runs beside the follower of a task runs beside that task, too.
            group = [*group, *spans] if follows else spans
            items = 1 if follows else chunks
            found.append(step)
        else:
            group, items = [*group, *spans], items + chunks
            found.append((concurrent_task, given))
    return found


def _spans(given: Sequence[Any], touched: Accesses) -> list[_Span]:
    read, written = (list(map(_span, each)) for each in touched)
    spans = []
    for x in given:
        if isinstance(x, np.ndarray) and x.size:
            span = _span(x)
            harmless = any(map(span.meets, read)) and not any(map(span.meets, written))
            spans.append(span._replace(written=not harmless))
    return spans


def _conflict(group: Sequence[_Span], spans: Sequence[_Span]) -> bool:
    return any(a.meets(b) and (a.written or b.written) for a in group for b in spans)


def _span(x: np.ndarray) -> _Span:
    if not x.size:
        return _Span(0, 0)
    start = x.__array_interface__["data"][0]
    steps = [(n - 1) * step for n, step in zip(x.shape, x.strides, strict=True)]
    last = start + sum(step for step in steps if step > 0)
    return _Span(start + sum(step for step in steps if step < 0), last + x.itemsize)
