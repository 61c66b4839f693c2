"""Programs run again, changed in one thing or looked at more closely: what reasons ask for."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import gradient
from fuzzing import interpreter
from fuzzing.comparison import BITS, Comparer, Difference
from fuzzing.interpreter import Raised, Taken, World, overwrites
from fuzzing.program import (
    Array,
    Dtype,
    Program,
    Ref,
    Statement,
    arguments,
    leaves,
    mapped,
    refs,
    with_changed,
)

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


_asked: list[Difference] = []
"""The difference whose reason is looked for: reasons of a changed program are not followed on."""


def agrees(changed: Program, difference: Difference) -> bool:
    """Whether a changed program agrees up to the stage at which `difference` was found, or what is
    left there has another reason."""
    from fuzzing import known  # whose reasons ask this module

    left = [d for d in Comparer(changed).compare() if stage(d) <= stage(difference)]
    if not left or _asked:
        return not left
    _asked.append(difference)
    try:
        return known.unexplained(left) is None
    finally:
        _asked.clear()


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


def each_number(
    program: Program, change: Callable[[float, int], float], arguments: bool = False
) -> Program:
    """The program with all floats of its tensors changed, and those among its arguments if asked;
    `change` is given the number of each, too."""
    count = itertools.count()

    def changed(value: Any) -> Any:
        if isinstance(value, Array) and value.dtype in BITS and value.layout != "expanded":
            data = mapped(value.data, lambda v: change(v, next(count)))
            return replace(value, data=data)
        if isinstance(value, Array) and value.dtype in BITS and value.shape[0]:
            row = mapped(value.data[0], lambda v: change(v, next(count)))
            return replace(value, data=(row,) * value.shape[0])
        if arguments and isinstance(value, float):
            return change(value, next(count))
        return value

    return tuple(with_changed(s, changed) for s in program)


def tame(program: Program) -> Program:
    """The program with ordinary numbers for infinities, NaN, and very large or small ones."""

    def ordinary(v: float, i: int) -> float:
        wild = not math.isfinite(v) or abs(v) > 1e20 or 0 < abs(v) < 1e-20
        return 0.4 + 0.37 * i % 1.3 if wild else v

    return each_number(program, ordinary, arguments=True)


def untied(program: Program) -> Program:
    """The tame program in which no two floats are equal, and none is 0."""
    return each_number(tame(program), lambda v, i: v + 1e-3 + 0.0037 * (i * 0.618 % 1))


def safe(program: Program) -> Program:
    """The program with numbers between 0.2 and 0.9, of which no function makes NaN."""
    return each_number(tame(program), lambda v, i: 0.2 + abs(v) % 0.7)


def in_order(program: Program) -> Program:
    """The program with tensors that lie in memory without gaps; but for those whose contiguous copy
    is taken, which would be no copy then."""
    copies = (".contiguous", "contiguous")
    copied = {r.index for s in program if s.function in copies for r in refs(s)}

    def plain(value: Any) -> Any:
        return replace(value, layout="contiguous") if isinstance(value, Array) else value

    return tuple(s if i in copied else with_changed(s, plain) for i, s in enumerate(program))


def agrees_without(difference: Difference, change: Callable[[Program], Program]) -> bool:
    """Whether the program agrees up to the stage of a difference once `change` has taken the cause
    out of it."""
    changed = change(difference.program)
    return repr(changed) != repr(difference.program) and agrees(changed, difference)  # True == 1


def stage(difference: Difference) -> int:
    """When in a comparison a difference is found: what comes later may follow from it."""
    stages = ("final", "gradient", "second", "alias")
    first = difference.kind.partition(" ")[0]
    return stages.index(first) + 1 if first in stages else 0


def agrees_in_order(difference: Difference) -> bool:
    """Whether the program agrees if its tensors lie in memory without gaps, which changes nothing
    for us."""
    before, after = (
        interpreter.run(gradient, p) for p in (difference.program, in_order(difference.program))
    )
    drawn = [s.random for s in difference.program]
    parts = [
        list(_flat([[r for r, d in zip(run.results, drawn, strict=True) if not d], run.first]))
        for run in (before, after)
    ]
    same = len(parts[0]) == len(parts[1]) and all(
        a.shape == b.shape and np.allclose(a.values, b.values, rtol=1e-6, equal_nan=True)
        for a, b in zip(*parts, strict=True)
    )
    return same and agrees_without(difference, in_order)


def _flat(value: Any) -> Iterator[Taken]:
    if isinstance(value, list):
        for v in value:
            yield from _flat(v)
    elif isinstance(value, Taken):
        yield value


@contextmanager
def recorded_logical_not() -> Iterator[None]:
    """PyTorch with `logical_not_` and its like as the graph knows of them."""
    names = ("logical_not", "logical_and", "logical_or", "logical_xor")
    before = {name: getattr(torch.Tensor, f"{name}_") for name in names}
    for name in names:
        function = getattr(torch, name)
        setattr(torch.Tensor, f"{name}_", lambda self, *args, function=function, **options:
                self.copy_(function(self, *args, **options).to(self.dtype)))  # fmt: skip
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(torch.Tensor, f"{name}_", method)


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
    bits = min(BITS[name] for name in dtypes(program) if name in BITS)
    return all(_as_near(*three, bits) for three in zip(ours, theirs, exact, strict=True))


def near_in_float64(difference: Difference) -> bool:
    """Whether the second derivatives are the same to nine digits after the point in float64."""
    program = widened(difference.program)
    ours, theirs = (interpreter.run(library, program).second for library in (gradient, torch))
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return False
    return all(
        a is b or (isinstance(a, Taken) and isinstance(b, Taken) and a.shape == b.shape
                   and np.allclose(a.values, b.values, rtol=1e-9, atol=1e-9, equal_nan=True))
        for a, b in zip(ours, theirs, strict=True)
    )  # fmt: skip


def dtypes(program: Program) -> set[str]:
    """The names of the dtypes of a program's tensors, and of those that it asks for."""
    values = (v for s in program for v in leaves(arguments(s)))
    return {
        v.dtype if isinstance(v, Array) else v.name for v in values if isinstance(v, (Array, Dtype))
    }


def _as_near(ours: Any, theirs: Any, exact: Any, bits: int) -> bool:
    three = ours, theirs, exact
    if any(isinstance(t, list) for t in three):
        return all(isinstance(t, list) for t in three) and all(
            _as_near(*each, bits) for each in zip(*three, strict=True)
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
        largest = np.abs(exact.values[np.isfinite(exact.values)]).max(initial=0.0)
        theirs_most = np.where(np.isfinite(theirs_lost), theirs_lost, 0).max(initial=0.0)
        # What is of more digits itself may have lost them on the way, if PyTorch's has.
        own = 2.0**-bits if theirs.dtype != "float64" else 2.0**-50
        allowed = 8 * theirs_most + 8 * largest * own
    endless = ~np.isfinite(ours.values) & ~np.isfinite(theirs.values)
    alike = (ours.values == theirs.values) | endless
    return bool(((lost <= allowed) | alike).all())


# Looked at more closely


def sharing_differs(difference: Difference) -> bool:
    """Whether a reshape up to the difference gives a view under one package and a copy under the
    other: that hangs on the strides of what is reshaped."""
    theirs, ours = worlds(difference.program)
    whole = difference.index < 0 or difference.kind in (
        "alias",
        "final",
        "requires_grad",
        "is_leaf",
    )
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


def chooses_equals(difference: Difference) -> bool:
    """Whether the elements that both have chosen are equal, or NaN."""
    statement, a, b = difference.program[difference.index], difference.ours, difference.theirs
    world, _ = interpreter.start(torch, difference.program[: difference.index], None)
    name, args = statement.function, statement.args
    if name == "call":
        name, args = difference.program[args[0].index].function, args[1:]
    x = world.resolve(args[0]).detach().double().numpy()
    spatial = re.search(r"max_?pool([123])d", name, re.IGNORECASE)
    if spatial:
        n = int(spatial[1])
        x = x.reshape(*x.shape[:-n], -1)
        picked = [x_at(x, t.values.reshape(*t.values.shape[:-n], -1), -1) for t in (a, b)]
    else:
        place = 2 if name.strip(".") in ("kthvalue", "topk") else 1
        dim = statement.options.get("dim", args[place] if len(args) > place else -1)
        picked = [x_at(x, t.values, dim) for t in (a, b)]
    return bool(np.array_equal(*picked, equal_nan=True))


def x_at(x: np.ndarray, indices: np.ndarray, dim: int) -> np.ndarray:
    x = x.reshape(-1) if not x.ndim else x
    indices = np.expand_dims(indices, dim) if indices.ndim < x.ndim else indices
    return np.take_along_axis(x, indices, dim)


def written_twice(difference: Difference) -> bool:
    """Whether only elements differ that an assignment to an index writes more than once."""
    world, _ = interpreter.start(torch, difference.program[: difference.index], None)
    statement = difference.program[difference.index]
    shape = tuple(world.resolve(statement.args[0]).shape)
    places = torch.arange(math.prod(shape)).reshape(shape)
    index = mapped(statement.args[1], world.resolve)
    picked = places[index].reshape(-1).numpy()
    twice = np.bincount(picked, minlength=math.prod(shape)).reshape(shape) > 1
    return bool((difference.ours.values == difference.theirs.values)[~twice].all())


def given(difference: Difference) -> list[np.ndarray]:
    """The numbers of the first argument of the statement that differs: PyTorch's, and ours."""
    program, index = difference.program, difference.index
    firsts = [
        interpreter.start(library, program[:index], None)[0].resolve(program[index].args[0])
        for library in (torch, gradient)
    ]
    return [x.detach().double().numpy() for x in firsts]


def given_nearly_equal(difference: Difference) -> bool:
    """Whether the first argument is the same but for rounding, and not the very same."""
    a, b = given(difference)
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)) and not np.array_equal(
        a, b, equal_nan=True
    )


def near_a_step(difference: Difference) -> bool:
    """Whether all numbers that differ were rounded from such as agree, to neighbours."""
    ours, theirs = difference.ours, difference.theirs
    if not isinstance(ours, Taken) or not isinstance(theirs, Taken):
        return False
    a, b = given(difference)
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
