"""The program of a plan on the CPU: functions with their arguments, and kernels as tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.numpy import threads
from gradient.backends.numpy.workspace import Workspace, working_in
from gradient.plan import arena
from gradient.plan.calls import Buffer, Call, Ref, leaves

Step = tuple[Callable[..., Any], tuple[Any, ...]]

LARGE = 1 << 18
"""The minimum bytes of a result that a method may make in its place; a smaller one is copied."""

_NOTHING = np.empty(0, np.uint8)


class Scratch(NamedTuple):
    """A placeholder for temporary memory in a task's arguments. `with_scratch` replaces it by a
    part of the arena that is free during the call, or by memory that calls share."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]
    end: int
    """The bytes of that memory that the call needs."""


def scratch_of(steps: Sequence[Step]) -> int:
    """The bytes of scratch memory that steps need."""
    return max((x.end for _, given in steps for x in given if isinstance(x, Scratch)), default=0)


def with_scratch(
    steps: Sequence[Step], memory: np.ndarray | None = None
) -> tuple[list[Step], np.ndarray]:
    """The steps with memory for their scratch arrays, and this memory: `memory`, or a new block."""
    if memory is None:
        memory = arena.block(scratch_of(steps))

    def resolved(x: Any) -> Any:
        if not isinstance(x, Scratch):
            return x
        return np.ndarray(x.shape, x.dtype, memory, x.offset, x.strides)

    return [(function, tuple(map(resolved, given))) for function, given in steps], memory


def with_scratch_buffers(
    lives: dict[Ref, tuple[int, int]], buffers: tuple[Buffer, ...], needed: Mapping[int, int]
) -> tuple[dict[Ref, tuple[int, int]], tuple[Buffer, ...]]:
    """The buffers and their lifetimes, with a scratch buffer for each call that needs one."""
    first = len(buffers)
    added = [
        Buffer((nbytes,), np.dtype(np.uint8), (1,), "internal", Ref(first + n), None)
        for n, nbytes in enumerate(needed.values())
    ]
    lives = lives | {Ref(first + n): (call, call) for n, call in enumerate(needed)}
    return lives, (*buffers, *added)


def workspace_of(function: Callable[[], Any], out: Any) -> int:
    """Run a method to measure the bytes of its workspace (`gradient.backends.numpy.workspace`)."""
    counted = Workspace(_place(out))
    with working_in(counted):
        function()
    return counted.used


def method(function: Callable[[], Any], out: Any, needed: int = 0) -> list[Step]:
    """A call by the backend's method, with scratch memory for its workspace. A result that is not
    made in its place is copied there."""
    if needed:
        scratch = Scratch(0, (needed,), np.dtype(np.uint8), (1,), needed)
        return [(lambda block: _run_in(block, function, out), (scratch,))]
    place = _place(out)
    if place is not None and place.nbytes >= LARGE:
        return [(lambda: _run_in(_NOTHING, function, out), ())]
    if not isinstance(out, np.ndarray):
        return [(lambda: _copy_to(out, function()), ())]
    return [(lambda: np.copyto(out, function()), ())]


def _place(out: Any) -> np.ndarray | None:
    """The place of a method's result, if it returns a single array."""
    places = list(leaves(out, np.ndarray))
    return places[0] if len(places) == 1 else None


def _run_in(block: np.ndarray, function: Callable[[], Any], out: Any) -> None:
    with working_in(Workspace(_place(out), block)):
        result = function()
    if isinstance(out, np.ndarray):
        np.copyto(out, result)
    else:
        _copy_to(out, result)


def _copy_to(places: Any, results: Any) -> None:
    """Copy each array of a tuple of results to its place."""
    for place, result in zip(places, results, strict=True):
        if isinstance(place, np.ndarray):
            np.copyto(place, result)


def task(*arguments: Any) -> None:
    """A placeholder for a kernel in a program, with the arguments of `Tasks.append`, until
    `joined`."""
    raise NotImplementedError


def concurrent_task(*arguments: Any) -> None:
    """As `task`, for a kernel that may start before the previous task is done."""
    raise NotImplementedError


def early(function: Callable[..., Any], *arguments: Any) -> None:
    """A function that needs only the plan's inputs and numbers: `joined` moves it to the beginning,
    so that the tasks around it form one list."""
    function(*arguments)


def named(call: Call, steps: Sequence[Step]) -> str:
    """Name what computes a call: a kernel of the pool, a function of NumPy, or the backend's
    method, whose result is copied."""
    names = dict.fromkeys(step_name(call, *step) for step in steps if step[0] is not early)
    return ", ".join(names) or "nothing"


def step_name(call: Call, function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Name what computes a step of a call: "the kernel layer_norm_rows", "numpy.add"."""
    if function in (task, concurrent_task):
        return f"the kernel {arguments[0].__name__}"
    if function is early:
        function = arguments[0]
    function = getattr(function, "func", function)  # of a partial
    if isinstance(function, np.ufunc) or getattr(function, "__module__", "") == "numpy":
        return f"numpy.{function.__name__}"
    if "<lambda>" in function.__qualname__ or "<locals>" in function.__qualname__:
        return f"the method {call.op}"
    owner = getattr(function, "__self__", None)  # `reduce` of a ufunc
    return f"numpy.{owner.__name__}.reduce" if isinstance(owner, np.ufunc) else function.__name__


def joined(steps: Sequence[Step]) -> list[Step]:
    """The program with consecutive tasks joined to one call of the pool's driver. `early` functions
    come first, without repeats."""
    first = [step for step in steps if step[0] is early]
    keys = [tuple(x if isinstance(x, int) else id(x) for x in given[1:]) for _, given in first]
    program: list[Step] = list(
        {
            (given[0], key): (early, given) for (_, given), key in zip(first, keys, strict=True)
        }.values()
    )
    together: threads.Tasks | None = None
    for function, arguments in steps:
        if function is early:
            continue
        if function not in (task, concurrent_task):
            together = None
            program.append((function, arguments))
            continue
        if together is None:
            together = threads.Tasks()
            program.append((threads.run_tasks, (together,)))
        together.append(*arguments, wait=function is task)
    return program
