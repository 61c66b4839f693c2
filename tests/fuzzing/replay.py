"""Programs run again, changed in one thing or looked at more closely: what reasons ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import gradient
from fuzzing import interpreter
from fuzzing.comparison import BITS, Comparer, Difference
from fuzzing.interpreter import Raised, Taken, World, overwrites
from fuzzing.program import Array, Dtype, Program, Ref, Statement, arguments, leaves, with_changed

RESHAPES = frozenset(
    {"reshape", "reshape_as", "view", "view_as", "flatten", "unflatten", "ravel", "contiguous"}
)
INDEXED = (
    "setitem",
    ".masked_scatter_",
    ".scatter_",
    ".scatter_add_",
    ".index_copy_",
    ".index_add_",
)
NARROW = {"float16", "bfloat16", "half", "float32"}


def agrees(program: Program) -> bool:
    return not Comparer(program).compare()


def worlds(program: Program) -> tuple[World, World]:
    """The values of all statements: PyTorch's, and ours."""
    return interpreter.start(torch, program, None)[0], interpreter.start(gradient, program, None)[0]


# Changed in one thing


def with_numbers(difference: Difference) -> Program:
    """The program in which the statement that differs is given the numbers that tensors of ints or
    bools hold in place of these."""

    def number(value: Any) -> Any:
        if not isinstance(value, Array) or len(value.shape) > 1 or "float" in value.dtype:
            return value
        data = value.data
        if math.prod(value.shape) != 1:
            return data
        while isinstance(data, tuple):
            data = data[0]
        return int(data)

    program = list(difference.program)
    program[difference.index] = with_changed(program[difference.index], number)
    return tuple(program)


def widened(program: Program) -> Program:
    """The program in float64 where it is in fewer bits."""

    def wide(value: Any) -> Any:
        if isinstance(value, Array) and value.dtype in NARROW:
            return replace(value, dtype="float64")
        return Dtype("float64") if isinstance(value, Dtype) and value.name in NARROW else value

    def statement(s: Statement) -> Statement:
        s = with_changed(s, wide)
        return (
            replace(s, function=".double") if s.function in (".half", ".bfloat16", ".float") else s
        )

    return tuple(map(statement, program))


@contextmanager
def recorded_logical_not() -> Iterator[None]:
    """PyTorch with a `logical_not_` that the graph knows of."""
    torch.Tensor.logical_not_ = lambda self: self.copy_((self == 0).to(self.dtype))
    try:
        yield
    finally:
        del torch.Tensor.logical_not_


def as_near_in_float64(difference: Difference) -> bool:
    """Whether our numbers are about as near to those of a run in float64 as PyTorch's are."""
    pick = {
        "value": lambda run: [run.results[difference.index]],
        "gradient": lambda run: run.first,
        "second": lambda run: run.second,
    }[difference.kind]
    program = difference.program
    ours, theirs = pick(interpreter.run(gradient, program)), pick(interpreter.run(torch, program))
    exact = pick(interpreter.run(torch, widened(program)))
    if not all(isinstance(r, list) for r in (ours, theirs, exact)):
        return False
    return all(_as_near(*three) for three in zip(ours, theirs, exact, strict=True))


def _as_near(ours: Any, theirs: Any, exact: Any) -> bool:
    three = ours, theirs, exact
    if any(isinstance(t, list) for t in three):
        return all(isinstance(t, list) for t in three) and all(
            _as_near(*each) for each in zip(*three, strict=True)
        )
    if not all(isinstance(t, Taken) for t in three) or theirs.dtype not in BITS:
        return True
    if len({t.shape for t in three}) > 1:
        return False
    with np.errstate(all="ignore"):
        if theirs.dtype == "float16":  # beyond its range all is infinite
            exact = replace(exact, values=exact.values.astype(np.float16).astype(np.float64))
        lost, theirs_lost = (np.abs(t.values - exact.values) for t in (ours, theirs))
        lost = np.where(ours.values == exact.values, 0.0, lost)  # also infinite ones
        largest = np.abs(exact.values[np.isfinite(exact.values)]).max(initial=1.0)
        theirs_most = np.where(np.isfinite(theirs_lost), theirs_lost, 0).max(initial=0.0)
        allowed = 8 * theirs_most + 64 * largest * 2.0 ** -BITS[theirs.dtype]
    alike = (ours.values == theirs.values) | (np.isnan(ours.values) & np.isnan(theirs.values))
    return bool(((lost <= allowed) | alike).all())


# Looked at more closely


def sharing_differs(difference: Difference) -> bool:
    """Whether a reshape up to the difference gives a view under one package and a copy under the
    other: that hangs on the strides of what is reshaped."""
    theirs, ours = worlds(difference.program)
    whole = difference.index < 0 or difference.kind in ("alias", "final")
    last = len(difference.program) if whole else difference.index + 1
    for s, result_t, result_o in zip(difference.program[:last], theirs.values, ours.values,
                                     strict=False):  # fmt: skip
        given = s.args[0] if s.args else None
        if s.function.rpartition(".")[2] not in RESHAPES or not isinstance(given, Ref):
            continue
        if shares(theirs, given, result_t) != shares(ours, given, result_o):
            return True
    return False


def shares(world: World, given: Ref, result: Any) -> bool | None:
    """Whether a result has memory in common with what it was made of."""
    try:
        x, out = world.resolve(given), world.tensors(result)[0]
    except (IndexError, TypeError):
        return None
    if not world.is_tensor(x) or x.numel() < 2:
        return None
    if world.is_torch:
        return x.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
    return x.backend.storage(x.array) is out.backend.storage(out.array)


def overlaps(difference: Difference) -> bool:
    """Whether the statement writes into memory that another argument shows, too, in another way,
    or that the written tensor itself shows more than once."""
    world, _ = interpreter.start(torch, difference.program[: difference.index], None)
    statement = difference.program[difference.index]
    target, *others = (
        world.resolve(v) for v in leaves(arguments(statement)) if isinstance(v, (Ref, Array))
    )
    if not world.is_tensor(target):
        return False
    if len(np.unique(places(target))) < target.numel():
        return True
    return any(
        world.is_tensor(other)
        and other.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()
        and (
            statement.function in INDEXED
            or other.shape != target.shape
            or not np.array_equal(places(other), places(target))
        )
        for other in others
    )


def near_a_step(difference: Difference) -> bool:
    """Whether all numbers that differ were rounded from such as agree, to neighbours."""
    program, ours, theirs = difference.program, difference.ours, difference.theirs
    if not isinstance(ours, Taken) or not isinstance(theirs, Taken):
        return False
    given = [
        world.resolve(program[difference.index].args[0])
        for world in (
            interpreter.start(torch, program[: difference.index], None)[0],
            interpreter.start(gradient, program[: difference.index], None)[0],
        )
    ]
    a, b = (x.detach().double().numpy() for x in given)
    gap = np.abs(ours.values.astype(np.float64) - theirs.values.astype(np.float64))
    differ = gap > 0
    near = np.isclose(a, b, rtol=1e-6, atol=1e-9)[differ]
    return bool(near.all()) and bool((gap[differ] <= 1).all())


def places(tensor: Any) -> np.ndarray:
    """Where in its memory each element lies."""
    numbers = torch.arange(tensor.untyped_storage().nbytes() // tensor.itemsize)
    return numbers.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).numpy()


def raised_in_place(difference: Difference) -> bool:
    """Whether a statement that writes to the memory of what differs, or of what it is computed of,
    failed under both packages."""
    world, theirs = interpreter.start(torch, difference.program, None)
    ours = interpreter.start(gradient, difference.program, None)[1]
    read = [
        v for v in leaves(arguments(difference.program[difference.index])) if isinstance(v, Ref)
    ]
    values = world.values[difference.index], *map(world.resolve, read)
    found = [t for value in values for t in world.tensors(value)]
    memory = {t.untyped_storage().data_ptr() for t in found}
    for s, a, b in zip(difference.program, theirs.results, ours.results, strict=True):
        if overwrites(s) and isinstance(a, Raised) and isinstance(b, Raised):
            target = world.resolve(s.args[0])
            if world.is_tensor(target) and target.untyped_storage().data_ptr() in memory:
                return True
    return False
