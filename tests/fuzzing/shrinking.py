"""The fewest statements that still show a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fuzzing import interpreter, known
from fuzzing.comparison import Difference, differences
from fuzzing.generator import pruned
from fuzzing.interpreter import Taken
from fuzzing.numbers import FLOATS, nested
from fuzzing.program import Array, Program, Ref, Statement, mapped, refs, with_changed

Wanted = Callable[[Program], Difference | None]


def without(program: Program, k: int) -> Program | None:
    """The program without statement k, if nothing refers to it."""
    if any(r.index == k for s in program for r in refs(s)):
        return None

    def renumber(value: Any) -> Any:
        return Ref(value.index - (value.index > k), value.item) if isinstance(value, Ref) else value

    return tuple(with_changed(s, renumber) for i, s in enumerate(program) if i != k)


def constant(program: Program, k: int, taken: Any) -> Program | None:
    """The program with the result of statement k in its place."""
    if not isinstance(taken, Taken) or program[k].function == "array" or taken.values.size > 60:
        return None
    flat = taken.values.reshape(-1).tolist()
    made = Array(
        nested(flat, taken.shape),
        taken.shape,
        taken.dtype,
        "contiguous",
        taken.requires_grad and taken.dtype in FLOATS,
    )
    return (*program[:k], Statement("array", (made,)), *program[k + 1 :])


def skipped(program: Program, k: int) -> Iterator[Program]:
    """The program with statement k's first tensor in the place of its result."""
    for found in refs(program[k])[:2]:

        def swap(value: Any, found: Ref = found) -> Any:
            return found if isinstance(value, Ref) and value.index == k else value

        changed = tuple(with_changed(s, swap) if i > k else s for i, s in enumerate(program))
        cut = without(changed, k)
        if cut is not None:
            yield cut


def simpler_arguments(statement: Statement) -> Iterator[Statement]:
    for key in statement.options:
        yield replace(statement, options={k: v for k, v in statement.options.items() if k != key})
    if statement.function == "array" and isinstance(statement.args[0], Array):
        array = statement.args[0]
        yield from (replace(statement, args=(a,)) for a in simpler_arrays(array))
        return
    for i, value in enumerate(statement.args):
        if isinstance(value, Array):
            for a in simpler_arrays(value):
                yield replace(statement, args=(*statement.args[:i], a, *statement.args[i + 1 :]))


def simpler_arrays(array: Array) -> Iterator[Array]:
    if array.layout != "contiguous":
        yield replace(array, layout="contiguous")
    if array.requires_grad:
        yield replace(array, requires_grad=False)
    for axis, n in enumerate(array.shape):
        if n > 1 and array.layout == "contiguous":
            values = np.array(array.data, dtype=object).reshape(array.shape)
            for part in (
                values.take([0], axis),
                values.take(list(range(n // 2)), axis),
                values.take(list(range(n // 2, n)), axis),
            ):
                yield replace(
                    array, data=nested(part.reshape(-1).tolist(), part.shape), shape=part.shape
                )
    if (
        array.shape
        and array.layout == "contiguous"
        and 0 not in array.shape
        and array.dtype != "bool"
    ):
        values = np.array(array.data, dtype=object).reshape(array.shape)
        ones = [1 if array.dtype not in FLOATS else 1.0] * values.size
        if values.reshape(-1).tolist() != ones:
            yield replace(array, data=nested(ones, array.shape))


def candidates(program: Program) -> Iterator[Program]:
    for k in reversed(range(len(program))):
        cut = without(program, k)
        if cut is not None:
            yield cut
    taken = interpreter.run(torch, program).results
    for k in reversed(range(len(program))):
        yield from skipped(program, k)
        made = constant(program, k, taken[k])
        if made is not None:
            yield pruned(list(made))
    for k, statement in enumerate(program):
        for simpler in simpler_arguments(statement):
            yield (*program[:k], simpler, *program[k + 1 :])


def shrink(program: Program, difference: Difference, most: int = 250) -> tuple[Program, Difference]:
    """A smaller program with a difference of the same kind in the same function, which no reason
    covers either."""
    tried = 0
    while True:
        for smaller in candidates(program):
            tried += 1
            if tried > most:
                return program, difference
            try:
                found = [
                    d
                    for d in differences(smaller)
                    if d.signature == difference.signature and known.reason(d) is None
                ]
            except Exception:
                continue
            if found:
                program, difference = smaller, found[0]
                break
        else:
            return program, difference


__all__ = ["mapped", "shrink"]
