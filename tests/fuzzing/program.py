"""A program as data: statements that refer to the results of earlier ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Ref:
    """The result of the statement `index`, or item `item` of it."""

    index: int
    item: int | None = None


@dataclass(frozen=True)
class Dtype:
    name: str


@dataclass(frozen=True)
class Array:
    """A new tensor: its numbers (nested tuples), and how it lies in memory."""

    data: Any
    shape: tuple[int, ...]
    dtype: str
    layout: str = "contiguous"
    requires_grad: bool = False


@dataclass(frozen=True)
class Statement:
    """A call: `torch.<name>`, a method `.<name>` of the first argument, an operator, an index."""

    function: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    random: bool = False
    """Whether its values are random, so that only dtype and shape can be compared."""


Program = tuple[Statement, ...]

OPERATORS = (
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "@",
    "&",
    "|",
    "^",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
)
INPLACE_OPERATORS = ("+=", "-=", "*=", "/=", "//=", "%=", "**=", "&=", "|=", "^=")
PREFIXES = ("neg", "invert", "pos")


def leaves(value: Any) -> Iterator[Any]:
    """What a statement's arguments hold, inside of tuples, lists and slices."""
    if isinstance(value, (tuple, list)):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, slice):
        yield from leaves((value.start, value.stop, value.step))
    else:
        yield value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to everything inside of its tuples, lists and slices."""
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(v, change) for v in value)
    if isinstance(value, slice):
        return slice(*(mapped(v, change) for v in (value.start, value.stop, value.step)))
    return change(value)


def arguments(statement: Statement) -> tuple[Any, ...]:
    return (*statement.args, *statement.options.values())


def refs(statement: Statement) -> list[Ref]:
    return [v for v in leaves(arguments(statement)) if isinstance(v, Ref)]


def with_changed(statement: Statement, change: Callable[[Any], Any]) -> Statement:
    return replace(
        statement,
        args=mapped(statement.args, change),
        options={k: mapped(v, change) for k, v in statement.options.items()},
    )


# As a script


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def _data(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_data(v) for v in value) + "]"
    return _number(value)


def _array(array: Array) -> str:
    swapped = array.layout == "transposed"
    text = f"{_data(_stored(array))}, dtype=torch.{array.dtype}"
    made = f"torch.tensor({text})"
    if 0 in array.shape:
        made = f"torch.zeros({array.shape}, dtype=torch.{array.dtype})"
        swapped = False
    if swapped:
        made += ".transpose(0, -1)"
    if array.layout == "stepped" and 0 not in array.shape:
        made += "[..., ::2]"
    if array.layout == "expanded" and 0 not in array.shape:
        made += f".expand({array.shape})"
    return made + ".requires_grad_()" * array.requires_grad


def _stored(array: Array) -> Any:
    """The nested numbers that are handed to `tensor`, before the layout is made of them."""
    if 0 in array.shape:
        return array.data
    if array.layout == "transposed":
        return swap_ends(array.data, array.shape)
    if array.layout == "stepped":
        return doubled(array.data)
    if array.layout == "expanded":
        return array.data[:1]
    return array.data


def swap_ends(data: Any, shape: tuple[int, ...]) -> Any:
    """Nested tuples with the first and the last axis exchanged."""

    def at(index: tuple[int, ...]) -> Any:
        value = data
        for i in index:
            value = value[i]
        return value

    swapped = (shape[-1], *shape[1:-1], shape[0])

    def build(prefix: tuple[int, ...]) -> Any:
        if len(prefix) == len(swapped):
            return at((prefix[-1], *prefix[1:-1], prefix[0]))
        return tuple(build((*prefix, i)) for i in range(swapped[len(prefix)]))

    return build(())


def doubled(data: Any) -> Any:
    """Nested tuples with each number of the last axis followed by a 7 or, of bools, a True."""
    if data and isinstance(data[0], tuple):
        return tuple(doubled(d) for d in data)
    return tuple(w for v in data for w in (v, True if isinstance(v, bool) else 7))


def show(value: Any) -> str:
    """A value as it is written in the script."""
    if isinstance(value, Ref):
        return f"v{value.index}" + ("" if value.item is None else f"[{value.item}]")
    if isinstance(value, Dtype):
        return f"torch.{value.name}"
    if isinstance(value, Array):
        return _array(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(show, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(show, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return repr(value)


def _index(value: Any) -> str:
    if isinstance(value, slice):
        parts = ["" if v is None else show(v) for v in (value.start, value.stop)]
        return ":".join(parts) + ("" if value.step is None else f":{show(value.step)}")
    if value is Ellipsis:
        return "..."
    if isinstance(value, tuple) and value:
        return ", ".join(map(_index, value)) + ("," if len(value) == 1 else "")
    return show(value)


def source(statement: Statement) -> str:
    """The statement as an expression, or an assignment to an index."""
    name, args = statement.function, statement.args
    texts = [show(a) for a in args] + [f"{k}={show(v)}" for k, v in statement.options.items()]
    if name == "array":
        return show(args[0])
    if name == "getitem":
        return f"{show(args[0])}[{_index(args[1])}]"
    if name == "setitem":
        return f"{show(args[0])}[{_index(args[1])}] = {show(args[2])}"
    if name in OPERATORS:
        return f"{texts[0]} {name} {texts[1]}"
    if name in INPLACE_OPERATORS:
        return f"{texts[0]} {name} {texts[1]}"
    if name in PREFIXES:
        return {"neg": "-", "invert": "~", "pos": "+"}[name] + texts[0]
    if name == "call":
        return f"{texts[0]}({', '.join(texts[1:])})"
    if name == "item":
        return texts[0]
    if name.startswith("attr."):
        return f"{texts[0]}.{name.removeprefix('attr.')}"
    if name.startswith("."):
        return f"{texts[0]}{name}({', '.join(texts[1:])})"
    made = f"torch.{name}({', '.join(texts)})"
    return f"fill({made})" if is_module(name) else made


def is_module(name: str) -> bool:
    """Whether a function's name is that of a module's class: nn.Linear, but not nn.functional."""
    return name.startswith("nn.") and name[3].isupper()


def binds(statement: Statement) -> bool:
    """Whether the statement gives a new result, rather than a write by an operator or an index."""
    return statement.function not in INPLACE_OPERATORS and statement.function != "setitem"


def line(index: int, statement: Statement) -> str:
    text = source(statement)
    return f"v{index} = {text}" if binds(statement) else text


FILL = '''
def fill(module):
    """Give a module's weights the same numbers under both packages."""
    for n, p in enumerate(module.double().parameters()):
        with torch.no_grad():
            p.copy_(torch.arange(p.numel()).reshape(p.shape).double().add(n).mul(0.7).sin())
    return module
'''


def script(program: Program) -> str:
    """The program as a script that runs under either package."""
    lines = [line(i, s) for i, s in enumerate(program)]
    if any(is_module(s.function) for s in program):
        lines = [*FILL.strip().splitlines(), *lines]
    return "\n".join(["import torch  # or: import gradient as torch", *lines])
