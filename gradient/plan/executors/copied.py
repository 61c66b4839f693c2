"""Calls whose operands must be copied to another layout, in scratch memory, before a kernel runs.

If kernels need contiguous rows, the backend's method copies other operands in Python. In a plan the
copy is a separate step, and the rest of the method becomes tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradient.backends.numpy import copies as numpy_copies
from gradient.plan.arena import ALIGNMENT
from gradient.plan.calls import Ref, leaves
from gradient.plan.executors.program import Scratch, Step, scratch_of, task
from gradient.plan.executors.tasks import lower

Operands = Mapping[Ref, np.ndarray]


def lower_on_copies(
    function_on: Callable[[Operands], Callable[[], Any]],
    operands: Operands,
    own: Callable[[np.ndarray], bool],
    out: Any,
    kind: Any,
) -> list[Step] | None:
    """The tasks of a call, after copies of operands; None if copies do not help.

    `function_on` returns the call on other arrays for its operands.
    """
    for laid_out in (_as_the_last, _first_without_gaps, _without_gaps):
        copies = laid_out(operands) if operands else {}
        if not copies:
            continue
        function = function_on(copies)
        for ref, x in copies.items():
            np.copyto(x, operands[ref])
        if not _alike(function_on({})(), function()):
            continue
        given = [copies.get(ref, x) for ref, x in operands.items()]
        steps = lower(function, given, _or_one_of(copies.values(), own), out, kind)
        if steps is not None:
            return _with_copies(steps, operands, copies)
    return None


def _or_one_of(
    copies: Iterable[np.ndarray], own: Callable[[np.ndarray], bool]
) -> Callable[[np.ndarray], bool]:
    """A function that says whether an array is one of the copies, or `own` to the plan."""
    made = set(map(id, copies))
    return lambda x: id(x) in made or own(x)


def _first_without_gaps(operands: Operands) -> dict[Ref, np.ndarray]:
    return _without_gaps(dict([next(iter(operands.items()))]))


def _without_gaps(operands: Operands) -> dict[Ref, np.ndarray]:
    return {
        ref: np.empty(x.shape, x.dtype)
        for ref, x in operands.items()
        if x.dtype.kind in "fV" and x.size and not x.flags.c_contiguous
    }


def _as_the_last(operands: Operands) -> dict[Ref, np.ndarray]:
    """A copy of the first operand (in gradient methods, the output's gradient), with the strides of
    the last operand of its shape (the output)."""
    ref, x = next(iter(operands.items()))
    alike = [y for y in operands.values() if (y.shape, y.dtype) == (x.shape, x.dtype)]
    made = np.empty_like(alike[-1], subok=False)
    return {ref: made} if x.dtype.kind in "fV" and x.size and made.strides != x.strides else {}


def _alike(a: Any, b: Any) -> bool:
    kinds = np.ndarray, np.generic  # of a full reduction NumPy may return a number
    pairs = zip(leaves(a, kinds), leaves(b, kinds), strict=True)
    return all(x.tobytes() == y.tobytes() for x, y in pairs)


def _with_copies(steps: Sequence[Step], operands: Operands, copies: Operands) -> list[Step]:
    """The steps, with the copies in scratch memory, and steps before them that fill it."""
    end = scratch_of(steps)
    offsets: dict[Ref, int] = {}
    for ref, x in copies.items():
        offsets[ref] = -(-end // ALIGNMENT) * ALIGNMENT
        end = offsets[ref] + x.nbytes

    def placed(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            for ref, copy in copies.items():
                if np.may_share_memory(x, copy):
                    at = offsets[ref] + x.ctypes.data - copy.ctypes.data
                    return Scratch(at, x.shape, x.dtype, x.strides, end)
        return x

    first: list[Step] = []
    for ref, x in copies.items():
        launch = numpy_copies.launch(operands[ref], x)
        first.append((np.copyto, (x, operands[ref])) if launch is None else (task, launch))
    return [(function, tuple(map(placed, given))) for function, given in (*first, *steps)]
