"""A profiler: a block in which each op, node and `record_function` is timed."""

from __future__ import annotations

import contextlib
import enum
import os
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gradient.autograd import calls
from gradient.autograd.function import FunctionOp
from gradient.autograd.op import Op
from gradient.autograd.variable import Variable
from gradient.errors import ArgumentError, sentence
from gradient.profiler.events import EventList, FunctionEvent, FunctionEventAvg, in_order
from gradient.source_lines import PACKAGE

__all__ = [
    "ProfilerAction",
    "ProfilerActivity",
    "profile",
    "record_function",
    "schedule",
    "supported_activities",
    "tensorboard_trace_handler",
]


class ProfilerActivity(enum.Enum):
    """PyTorch's activities. All are timed on the host, whichever is requested."""

    CPU = 0
    CUDA = 1
    XPU = 2


class ProfilerAction(enum.Enum):
    """The action of a profiler in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """The activities that `profile` can record here: those of the CPU."""
    return {ProfilerActivity.CPU}


def schedule(
    *,
    wait: int,
    warmup: int,
    active: int,
    repeat: int = 0,
    skip_first: int = 0,
    skip_first_wait: int = 0,
) -> Callable[[int], ProfilerAction]:
    """Return a function from a step's number to the profiler's action.

    After `skip_first` steps, it repeats cycles of `wait` idle steps, `warmup` steps that are not
    recorded (for work that is done only once), and `active` recorded steps; `repeat` times, or for
    ever. `skip_first_wait` leaves out the first `wait`.
    """
    cycle = wait + warmup + active
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        got = f"wait {wait}, warmup {warmup}, active {active}, repeat {repeat}"
        raise ArgumentError(sentence("schedule", "steps of at least 0, and active ones", got))

    def action(step: int) -> ProfilerAction:
        step -= skip_first
        if step < 0:
            return ProfilerAction.NONE
        step += wait if skip_first_wait else 0
        if repeat and step // cycle >= repeat:
            return ProfilerAction.NONE
        place = step % cycle
        if place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        last = place == cycle - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD

    return action


class _Watch:
    """Records times of calls in this thread, from `start` to `stop`."""

    def __init__(self, shapes: bool, stacks: bool) -> None:
        self.shapes, self.stacks = shapes, stacks
        self.events: list[FunctionEvent] = []
        self.open: list[tuple[Any, FunctionEvent]] = []
        self.thread = threading.get_ident()

    def start(self) -> None:
        self.began = time.perf_counter_ns()
        self.before: Any = sys.getprofile()
        if self.before is not None and not callable(self.before):  # cProfile's, before Python 3.12
            self.before.disable()
        sys.setprofile(self.noted)

    def stop(self) -> None:
        sys.setprofile(None)
        while self.open:
            self.end(self.open[-1][0])
        if self.before is not None:
            if callable(self.before):
                sys.setprofile(self.before)
            else:
                self.before.enable()

    def now(self) -> float:
        return (time.perf_counter_ns() - self.began) / 1e3

    def begin(self, owner: Any, name: str, user: bool = False) -> FunctionEvent:
        parent = self.open[-1][1] if self.open else None
        event = FunctionEvent(name, self.now(), self.thread, parent, is_user_annotation=user)
        if parent is not None:
            parent.cpu_children.append(event)
        self.events.append(event)
        self.open.append((owner, event))
        return event

    def end(self, owner: Any) -> FunctionEvent | None:
        """End the call that `owner` began, and the unfinished ones within it."""
        now = self.now()
        if not any(each is owner for each, _ in self.open):
            return None
        while True:
            found, event = self.open.pop()
            event.end = now
            if found is owner:
                return event

    def noted(self, frame: types.FrameType, happened: str, argument: Any) -> None:
        """Python calls this at each call and return."""
        kind = WATCHED.get(frame.f_code)
        if kind is None:
            return
        if happened == "call":
            self.begin(frame, "")
        elif happened == "return":
            event = self.end(frame)
            if event is not None:
                self.describe(event, kind, frame)

    def describe(self, event: FunctionEvent, kind: str, frame: types.FrameType) -> None:
        found = frame.f_locals
        event.name = found["node"].name() if kind == "backward" else found["made"].name
        if self.shapes and kind == "op":
            code = frame.f_code
            given = [found.get(n) for n in code.co_varnames[: code.co_argcount]]
            if code.co_flags & 4:  # *args
                given += found.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
            event.input_shapes = [list(x.array.shape) for x in given if isinstance(x, Variable)]
        if self.stacks and kind == "op":
            caller: types.FrameType | None = frame
            while caller is not None and caller.f_code.co_filename.startswith(PACKAGE):
                caller = caller.f_back
            if caller is not None:
                code = caller.f_code
                event.stack = [f"{code.co_filename}({caller.f_lineno}): {code.co_name}"]


def _watched() -> dict[types.CodeType, str]:
    """The code objects of the functions that the op decorator returns, one for each arity, and of
    those that compute gradients."""
    ops = {
        constant: "op"
        for make in (calls.of_one, calls.of_two, calls.of_n)
        for constant in make.__code__.co_consts
        if isinstance(constant, types.CodeType) and constant.co_name.startswith("call")
    }
    rules = (Op.vjp, Op.vjp_tensors, FunctionOp.vjp, FunctionOp.vjp_tensors)
    return ops | {rule.__code__: "backward" for rule in rules}


WATCHED = _watched()


class _Running(threading.local):
    watch: _Watch | None = None


running = _Running()


class profile:  # noqa: N801 (PyTorch's name)
    """`with profile() as prof:` times each op and node of a backward pass in this thread.

    Args:
        activities: accepted as in PyTorch; always the host's time is measured.
        schedule: which steps to record, such as `schedule(wait=1, warmup=1, active=3)`; the program
            marks the end of a step by `prof.step()`. Default: everything is recorded.
        on_trace_ready: called with the profiler after the last recorded step of a cycle, and at
            the end of the block if steps were recorded.
        record_shapes: record the shapes of the ops' inputs.
        with_stack: record the line of the program that called an op.
        profile_memory, with_flops, with_modules, use_cuda: accepted as in PyTorch, without effect.
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        use_cuda: bool | None = None,
        custom_trace_id_callback: Callable[[], str] | None = None,
        post_processing_timeout_s: float | None = None,
    ) -> None:
        self.activities = set(activities or supported_activities())
        self.schedule, self.on_trace_ready = schedule, on_trace_ready
        self.record_shapes, self.with_stack, self.acc_events = record_shapes, with_stack, acc_events
        self.step_num = 0
        self._events: list[FunctionEvent] = []
        self._watch: _Watch | None = None
        self.current_action = self._action()

    def _action(self) -> ProfilerAction:
        return ProfilerAction.RECORD if self.schedule is None else self.schedule(self.step_num)

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, like the beginning of the block."""
        self.current_action = self._action()
        self._record(self.current_action)

    def stop(self) -> None:
        """Stop, like the end of the block."""
        recorded = self._watch is not None
        self._record(ProfilerAction.NONE)
        if recorded and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def step(self) -> None:
        """Mark the end of a step, for a `schedule`."""
        before = self.current_action
        self.step_num += 1
        self.current_action = self._action()
        if before is ProfilerAction.RECORD_AND_SAVE:
            self._record(ProfilerAction.NONE)
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
        self._record(self.current_action)

    def _record(self, action: ProfilerAction) -> None:
        """Start or stop watching, by the action."""
        wanted = action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if wanted and self._watch is None:
            if running.watch is not None:
                expected = "one profiler at a time in a thread"
                raise ArgumentError(sentence("profile", expected, "another one that runs"))
            self._events = self._events if self.acc_events else []
            self._watch = running.watch = _Watch(self.record_shapes, self.with_stack)
            self._watch.start()
        elif not wanted and self._watch is not None:
            self._watch.stop()
            self._events += self._watch.events
            self._watch = running.watch = None

    def events(self) -> EventList[FunctionEvent]:
        """Return all calls, in the order of their starts."""
        return in_order(self._events)

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList[FunctionEventAvg]:
        """Return how often each op was called, and for how long: `prof.key_averages().table()`."""
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the calls to a file for chrome://tracing and ui.perfetto.dev."""
        self.events().export_chrome_trace(path)

    def export_stacks(
        self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total"
    ) -> None:
        """Write the time of each line of the program (`with_stack=True`), for flame graphs."""
        rows = self.key_averages(group_by_stack_n=1)
        lines = [
            f"{row.stack[0]};{row.key} {int(getattr(row, metric))}" for row in rows if row.stack
        ]
        Path(path).write_text("\n".join([*lines, ""]), encoding="utf-8")

    def add_metadata(self, key: str, value: str) -> None:
        """Does nothing; exists as in PyTorch."""

    add_metadata_json = add_metadata


class record_function(contextlib.ContextDecorator):  # noqa: N801 (PyTorch's name)
    """`with record_function("loss"):` adds a row of this name to a profiler's records; it also
    decorates functions. Without a profiler it does nothing."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name, self.args = name, args
        self.entered: list[tuple[_Watch | None, object]] = []

    def __enter__(self) -> record_function:
        watch, owner = running.watch, object()
        if watch is not None:
            watch.begin(owner, self.name, user=True)
        self.entered.append((watch, owner))
        return self

    def __exit__(self, *exc: object) -> None:
        watch, owner = self.entered.pop()
        if watch is not None:
            watch.end(owner)


def tensorboard_trace_handler(
    dir_name: str | os.PathLike[str], worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """Return an `on_trace_ready` that writes each trace to a file of a folder, for TensorBoard."""
    folder = Path(dir_name)
    worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"

    def write(prof: profile) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        prof.export_chrome_trace(folder / f"{worker}.{time.time_ns()}.pt.trace.json")

    if use_gzip:
        raise ArgumentError(sentence("tensorboard_trace_handler", "use_gzip=False", "True"))
    return write
