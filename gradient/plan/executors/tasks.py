"""Kernels of the CPU as tasks: calls that one kernel computes alone, without Python in between.

Which kernel a method of the backend starts, and with what, is seen by watching it once, on the
places that the plan has for its arguments. It becomes a task, which writes to the places of the
results, where that is all there is to the method: one kernel, all of whose arrays are the call's
arguments or results. That is tried: the task must give the bytes that the method gave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.numpy import threads
from gradient.plan.calls import leaves
from gradient.plan.executors.program import Step, task


def lowered(
    function: Callable[[], Any], operands: list[np.ndarray], own: Callable[[np.ndarray], bool],
    out: Any,
) -> list[Step] | None:  # fmt: skip
    """The task that does what `function` does, on these operands and places of results; None where
    a task alone does not. `own` says which operands may be filled, to try it."""
    places = list(leaves(out, np.ndarray))
    for x in filter(own, operands):
        _fill(x)
    launches: list[tuple[Any, ...]] = []
    with threads.listening(lambda *launch: launches.append(launch)):
        result = function()
    results = list(leaves(result, np.ndarray))
    if len(launches) != 1 or len(results) != len(places):
        return None
    kernel, n, chunk, *given = launches[0]
    arguments = [_placed(x, operands, results, places) for x in given]
    if any(x is None for x in arguments):
        return None
    if not all(any(np.may_share_memory(x, y) for y in given if _is_array(y)) for x in results):
        return None
    expected = [x.tobytes() for x in results]
    for place in places:
        place.view(np.uint8).fill(0xFF) if place.flags.c_contiguous else place.fill(0)
    tasks = threads.Tasks()
    tasks.append(kernel, n, chunk, *arguments)
    threads.run_tasks(tasks)
    if [x.tobytes() for x in places] != expected:
        return None
    return [(task, (kernel, n, chunk, *arguments))]


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _placed(
    x: Any, operands: list[np.ndarray], results: list[np.ndarray], places: list[np.ndarray]
) -> Any:
    """An argument of the kernel with the place of a result instead of the result."""
    if not _is_array(x) or x.size == 0:
        return x
    for result, place in zip(results, places, strict=True):
        if x.ctypes.data != result.ctypes.data or x.nbytes != result.nbytes:
            continue
        if x.shape == place.shape and x.strides == place.strides and x.dtype == place.dtype:
            return place
        if x.flags.c_contiguous and place.flags.c_contiguous and x.dtype == place.dtype:
            return place.reshape(x.shape)
        return None
    return x if any(np.may_share_memory(x, operand) for operand in operands) else None


def _fill(x: np.ndarray) -> None:
    """Numbers to try a kernel on: neither alike nor out of range."""
    if x.dtype.kind in "fV" and x.dtype.itemsize > 1 and x.size:
        x[...] = np.linspace(0.25, 1, x.size).reshape(x.shape)
    elif x.dtype == bool:
        x[...] = (np.arange(x.size) % 3 > 0).reshape(x.shape)
    else:
        x[...] = 0
