"""The program of a plan on the CPU: functions with their arguments, and kernels as tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.backends.numpy import threads

Step = tuple[Callable[..., Any], tuple[Any, ...]]


def task(*arguments: Any) -> None:
    """Stands in a program for a kernel, with the arguments of `Tasks.append`, until `joined`."""
    raise NotImplementedError


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
