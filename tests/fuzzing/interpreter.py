"""Run a program with PyTorch or with gradient, step by step, and take down what comes out."""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzzing.program import (
    INPLACE_OPERATORS,
    Array,
    Dtype,
    Program,
    Ref,
    Statement,
    _stored,
    is_module,
    mapped,
)

OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow, "@": operator.matmul,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "==": operator.eq,
    "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv,
    "//=": operator.ifloordiv, "%=": operator.imod, "**=": operator.ipow, "&=": operator.iand,
    "|=": operator.ior, "^=": operator.ixor, "neg": operator.neg, "invert": operator.invert,
    "pos": operator.pos, "getitem": operator.getitem,
}  # fmt: skip


@dataclass
class Taken:
    """A tensor as it was at one moment."""

    dtype: str
    shape: tuple[int, ...]
    requires_grad: bool
    values: np.ndarray
    is_leaf: bool = True


@dataclass
class Raised:
    """An exception as the result of a statement."""

    error: Exception

    def __str__(self) -> str:
        first = (str(self.error).splitlines() or [""])[0]
        return f"{type(self.error).__name__}: {first}"


@dataclass
class Run:
    """What a program gave: a result for each statement, then what is asked of it as a whole."""

    results: list[Any] = field(default_factory=list)
    first: Any = None
    """The gradient of every leaf, None where there is none; or what was raised."""
    second: Any = None
    final: list[Any] = field(default_factory=list)
    """Every result again at the end, after all writes."""
    written: list[Any] = field(default_factory=list)
    """Every result again after each was filled with a number of its own: who shares memory."""


class World:
    """The values of a program's statements under one package."""

    def __init__(self, library: Any):
        self.library = library
        self.is_torch = library.__name__ == "torch"
        self.values: list[Any] = []

    def resolve(self, value: Any) -> Any:
        if isinstance(value, Ref):
            found = self.values[value.index]
            return found if value.item is None else found[value.item]
        if isinstance(value, Dtype):
            return getattr(self.library, value.name)
        if isinstance(value, Array):
            return self.array(value)
        return value

    def array(self, array: Array) -> Any:
        library = self.library
        dtype = getattr(library, array.dtype)
        if 0 in array.shape:
            made = library.zeros(array.shape, dtype=dtype)
        else:
            made = library.tensor(_stored(array), dtype=dtype)
            if array.layout == "transposed":
                made = made.transpose(0, -1)
            elif array.layout == "stepped":
                made = made[..., ::2]
            elif array.layout == "expanded":
                made = made.expand(array.shape)
        return made.requires_grad_() if array.requires_grad else made

    def execute(self, statement: Statement) -> Any:
        """The result of one statement; the caller keeps it."""
        args = mapped(statement.args, self.resolve)
        options = {k: mapped(v, self.resolve) for k, v in statement.options.items()}
        return self.call(statement.function, args, options)

    def call(self, name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        if name in ("array", "item"):
            return args[0]
        if name == "setitem":
            args[0][args[1]] = args[2]
            return args[0]
        if name == "call":
            return args[0](*args[1:], **options)
        if name in OPERATIONS:
            return OPERATIONS[name](*args)
        if name.startswith("attr."):
            return getattr(args[0], name.removeprefix("attr."))
        if name.startswith("."):
            return getattr(args[0], name[1:])(*args[1:], **options)
        function = self.library
        for part in name.split("."):
            function = getattr(function, part)
        made = function(*args, **options)
        return self.filled(made) if is_module(name) else made

    def filled(self, module: Any) -> Any:
        """A module in float64 whose weights are numbers that both packages compute alike."""
        library = self.library
        module = module.double()
        for n, p in enumerate(module.parameters()):
            with library.no_grad():
                numbers = np.sin((np.arange(p.numel()).reshape(tuple(p.shape)) + n) * 0.7)
                p.copy_(library.from_numpy(np.asarray(numbers)))
        return module

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, self.library.Tensor)

    def tensors(self, value: Any) -> list[Any]:
        """The tensors of a result: itself, a tuple's items, or a module's weights and buffers."""
        if self.is_tensor(value):
            return [value]
        if isinstance(value, (tuple, list)):
            return [t for v in value for t in self.tensors(v)]
        if isinstance(value, self.library.nn.Module):
            return [*value.parameters(), *value.buffers()]
        return []

    def take(self, value: Any) -> Any:
        """A result in terms that both packages share, copied."""
        if self.is_tensor(value):
            plain = value.data
            if self.is_torch and value._is_zerotensor():  # zeros without memory
                plain = value.detach().clone()
            name = str(plain.dtype).rpartition(".")[2]
            if name in ("bfloat16", "float16", "float32"):
                plain = plain.double()
            # A copy, for the tensor may be overwritten later.
            values = np.array(plain.numpy(force=True) if self.is_torch else plain.numpy())
            return Taken(name, tuple(value.shape), value.requires_grad, values, value.is_leaf)
        if isinstance(value, self.library.nn.Module):
            return [self.take(t) for t in self.tensors(value)]
        if isinstance(value, (tuple, list)):
            return [self.take(v) for v in value]
        if type(value).__name__ in ("dtype", "DType"):
            return Dtype(str(value).rpartition(".")[2])
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        return type(value).__name__


def start(
    library: Any, program: Program, after: Callable[[World, Any], None] | None
) -> tuple[World, Run]:
    world, run = World(library), Run()
    for statement in program:
        try:
            value = world.execute(statement)
            if after is not None:
                after(world, value)
            taken = world.take(value)
        except Exception as error:
            value, taken = None, Raised(error)
        world.values.append(value)
        run.results.append(taken)
    return world, run


def named_tensors(world: World) -> list[Any]:
    """The distinct tensors of all results, in order."""
    seen: dict[int, Any] = {}
    for value in world.values:
        for tensor in world.tensors(value):
            seen.setdefault(id(tensor), tensor)
    return list(seen.values())


@functools.cache
def cotangents(shape: Sequence[int], seed: int) -> np.ndarray:
    count = np.arange(math.prod(shape), dtype=np.float64)
    return np.cos(count * 1.3 + seed + 0.25).reshape(shape)


def gradients(
    world: World, outputs: dict[int, Any], inputs: list[Any], create_graph: bool, after: Any = None
) -> list[Any]:
    """The gradients of a weighted sum of the outputs; the key of each chooses its weights."""
    library = world.library
    weights = [
        library.from_numpy(cotangents(tuple(o.shape), key).copy()).to(o.dtype)
        for key, o in outputs.items()
    ]
    if after is not None:
        after(world, weights)
    found = library.autograd.grad(
        list(outputs.values()),
        inputs,
        weights,
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
    )
    return list(found)


def differentiate(world: World, run: Run, random: set[int], after: Any) -> None:
    tensors = named_tensors(world)
    inputs = [t for t in tensors if t.requires_grad and t.is_leaf]
    outputs = {
        i: t
        for i, t in enumerate(tensors)
        if t.requires_grad and not t.is_leaf and id(t) not in random
    }
    if not inputs or not outputs:
        return
    try:
        first = gradients(world, outputs, inputs, True, after)
        run.first = [world.take(g) for g in first]
    except Exception as error:
        run.first = Raised(error)
        return
    further = {50 + i: g for i, g in enumerate(first) if g is not None and g.requires_grad}
    if not further:
        run.second = "constant"
        return
    try:
        second = gradients(world, further, inputs, False, after)
        run.second = [world.take(g) for g in second]
    except Exception as error:
        run.second = Raised(error)


def fill_each(world: World) -> None:
    """Write a number of its own into every tensor; those that share memory show the last one."""
    with world.library.no_grad():
        # Not the distinct ones: whether a result is its input, or a view of it, would count.
        for i, tensor in enumerate(t for value in world.values for t in world.tensors(value)):
            pairs = zip(tensor.shape, tensor.stride(), strict=True)
            if not any(n > 1 and step == 0 for n, step in pairs):  # not spread over itself
                tensor.data.fill_(i % 2 if str(tensor.dtype).endswith("bool") else i + 2)


def run(library: Any, program: Program, after: Callable[[World, Any], None] | None = None) -> Run:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        world, out = start(library, program, after)
        out.final = [world.take(v) for v in world.values]
        random = {
            id(t)
            for s, v in zip(program, world.values, strict=True)
            if s.random
            for t in world.tensors(v)
        }
        differentiate(world, out, random, after)
        try:
            fill_each(world)
            out.written = [world.take(v) for v in world.values]
        except Exception as error:
            out.written = [Raised(error)]
    return out


def overwrites(statement: Statement) -> bool:
    """Whether a statement writes into its first argument."""
    name = statement.function
    return (
        name in INPLACE_OPERATORS
        or name == "setitem"
        or (name.startswith(".") and name.endswith("_") and not name.endswith("__"))
    )
