"""Whether a call that both packages refuse, with errors of other classes, has two mistakes.

Of two mistakes, a package tells the one that it meets first. To see whether there are two, one
thing of the call is put right at a time: an option is left out, tensors are brought to one dtype, a
number takes the place of what was given. If one package still says the same words, and the other
now raises what the first one does, then each had told a mistake of its own. If no such change is
found, there is one mistake, of which one package raises the wrong class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import gradient
from fuzzing import interpreter
from fuzzing.interpreter import World
from fuzzing.program import Program, mapped
from gradient.errors import DTypeError

Call = tuple[list[Any], dict[str, Any]]

BUILTIN = (RuntimeError, IndexError, TypeError, ValueError, AttributeError, KeyError,
           AssertionError)  # fmt: skip


def builtin(error: Exception) -> type[Exception]:
    """The built-in exception that PyTorch's error is."""
    return next((kind for kind in BUILTIN if isinstance(error, kind)), Exception)


def two(program: Program, index: int) -> bool:
    theirs, ours = (
        interpreter.start(library, program[:index], None)[0] for library in (torch, gradient)
    )
    statement = program[index]

    def error(world: World, change: Callable[[World, Call], Call]) -> Exception | None:
        try:
            args = list(mapped(statement.args, world.resolve))
            options = {k: mapped(v, world.resolve) for k, v in statement.options.items()}
            world.call(statement.function, *change(world, (args, options)))
        except Exception as raised:
            return raised
        return None

    their_first, our_first = error(theirs, unchanged), error(ours, unchanged)
    if their_first is None or our_first is None:
        return False
    for change in changes(len(statement.args), list(statement.options)):
        a, b = error(theirs, change), error(ours, change)
        if a is None or b is None:
            continue
        if str(b) == str(our_first) and isinstance(our_first, builtin(a)):
            return True
        if str(a) != str(their_first):
            continue
        if isinstance(b, builtin(their_first)):
            return True
        if change is DTYPES and isinstance(our_first, DTypeError) and str(b) != str(our_first):
            return True  # ours told the dtypes, PyTorch something else
    return False


def unchanged(world: World, call: Call) -> Call:
    return call


def changes(count: int, options: list[str]) -> Iterator[Callable[[World, Call], Call]]:
    """Each puts one thing right in a call of so many arguments and of these options."""
    for name in options:
        yield lambda world, call, name=name: (
            call[0],
            {k: v for k, v in call[1].items() if k != name},
        )
    yield from (lambda world, call, n=n: (call[0][:n], call[1]) for n in range(1, count))
    yield DTYPES
    yield everywhere(copied)
    yield everywhere(shaped)
    for number in (0, 1, 1.0, True, (0,)):
        for i in range(1, count):
            yield lambda world, call, i=i, number=number: (
                [*call[0][:i], number, *call[0][i + 1 :]],
                call[1],
            )
        for name in options:
            yield lambda world, call, name=name, number=number: (
                call[0],
                {**call[1], name: number},
            )


def everywhere(change: Callable[[Call, Any], Any]) -> Callable[[World, Call], Call]:
    """All tensors of a call changed."""
    return lambda world, call: (
        [each(world, call, change, v) for v in call[0]],
        {k: each(world, call, change, v) for k, v in call[1].items()},
    )


def each(world: World, call: Call, change: Callable[[Call, Any], Any], value: Any) -> Any:
    return mapped(value, lambda v: change(call, v) if world.is_tensor(v) else v)


def in_double(call: Call, tensor: Any) -> Any:
    return tensor.detach().double()


def copied(call: Call, tensor: Any) -> Any:
    return tensor.detach().clone()


def shaped(call: Call, tensor: Any) -> Any:
    """Ones of the shape of the first argument, if it is a tensor."""
    first = call[0][0]
    if not isinstance(first, type(tensor)):
        return tensor
    return tensor.new_ones(tuple(first.shape))


DTYPES = everywhere(in_double)
