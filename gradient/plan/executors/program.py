"""The program of a plan on the CPU: functions with their arguments, and kernels as tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient.backends.numpy import threads
from gradient.plan.calls import Call

Step = tuple[Callable[..., Any], tuple[Any, ...]]


def task(*arguments: Any) -> None:
    """Stands in a program for a kernel, with the arguments of `Tasks.append`, until `joined`."""
    raise NotImplementedError


def named(call: Call, steps: Sequence[Step]) -> str:
    """What computes a call: a kernel of the pool, a function of NumPy's, or the backend's method,
    whose result is copied to its place."""
    return ", ".join(_name(call, *step) for step in steps) or "nothing"


def _name(call: Call, function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    if function is task:
        return f"the kernel {arguments[0].__name__}"
    function = getattr(function, "func", function)  # of a partial
    if isinstance(function, np.ufunc) or getattr(function, "__module__", "") == "numpy":
        return f"numpy.{function.__name__}"
    if "<lambda>" in function.__qualname__ or "<locals>" in function.__qualname__:
        return f"the method {call.op}"
    owner = getattr(function, "__self__", None)  # `reduce` of a ufunc
    return f"numpy.{owner.__name__}.reduce" if isinstance(owner, np.ufunc) else function.__name__


def joined(steps: Sequence[Step]) -> list[Step]:
    """The program with each run of consecutive tasks as one call of the pool's driver."""
    program: list[Step] = []
    together: threads.Tasks | None = None
    for function, arguments in steps:
        if function is not task:
            together = None
            program.append((function, arguments))
            continue
        if together is None:
            together = threads.Tasks()
            program.append((threads.run_tasks, (together,)))
        together.append(*arguments)
    return program
