"""Replays under a profiler: call by call, so that each is timed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gradient.plan.calls import Buffer, Call, Ref
from gradient.plan.executors.program import Step, joined, step_name


class WatchedCall(NamedTuple):
    """A call of a plan, and the named steps that compute it, not joined with others."""

    call: Call
    steps: list[tuple[str, Callable[..., Any], tuple[Any, ...]]]
    shapes: list[list[int]]


def watching() -> Any:
    """The timer of this thread's profiler (`gradient.profiler`), or None."""
    profiler = sys.modules.get("gradient.profiler.profile")
    return None if profiler is None else profiler.running.watch


def by_call(
    calls: Sequence[Call], steps: Sequence[Step], buffers: Sequence[Buffer]
) -> list[WatchedCall]:
    """Group a program's steps by call, without joining tasks of different calls; `calls` has the
    call of each step."""
    found: list[WatchedCall] = []
    for call, step in zip(calls, steps, strict=True):
        if not found or found[-1].call is not call:
            shapes = [list(buffers[ref].shape) for ref in call.inputs if isinstance(ref, Ref)]
            found.append(WatchedCall(call, [], shapes))
        found[-1].steps.append((step_name(call, *step), *joined([step])[0]))
    return found


def run_watched(calls: Iterable[WatchedCall], watch: Any) -> None:
    """Run calls one by one; `watch` notes the start and end of each, and what computes it."""
    for call, steps, shapes in calls:
        owner = object()
        event = watch.begin(owner, call.op)
        if watch.shapes:
            event.input_shapes = shapes
        if watch.stacks and call.line:
            event.stack = [call.line]
        for name, function, arguments in steps:
            within = object()
            watch.begin(within, name)
            function(*arguments)
            watch.end(within)
        watch.end(owner)
