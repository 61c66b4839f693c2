"""Schemas of operators in words, "name(Tensor x, float factor=2.0) -> Tensor": read and written."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gradient.dtypes import DType
from gradient.errors import ArgumentError
from gradient.tensor import Device, Tensor

__all__ = ["infer_schema", "mutated", "signature"]

WORDS = {
    Tensor: "Tensor", int: "SymInt", float: "float", bool: "bool", str: "str", complex: "complex",
    DType: "ScalarType", Device: "Device",
}  # fmt: skip
NUMBERS = {int, float, bool}


def _arguments(schema: str) -> list[str]:
    """What stands between the parentheses of a schema, by commas that are in no other pair."""
    found, depth, current = [], 0, ""
    for letter in schema[schema.index("(") + 1 :]:
        if depth == 0 and letter in ",)":
            found.append(current.strip())
            current = ""
            if letter == ")":
                break
            continue
        depth += (letter in "([") - (letter in ")]")
        current += letter
    return [each for each in found if each]


def signature(schema: str) -> inspect.Signature:
    """The arguments of a schema: names, defaults, and which are only passed by name."""
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    for argument in _arguments(schema):
        if argument == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        words, equal, default = argument.partition("=")
        value: Any = inspect.Parameter.empty
        if equal:
            try:
                value = ast.literal_eval(default.strip())
            except (ValueError, SyntaxError):  # a name, such as Mean
                value = default.strip()
        parameters.append(inspect.Parameter(words.split()[-1], kind, default=value))
    return inspect.Signature(parameters)


def mutated(schema: str) -> bool:
    """Whether an argument is marked as one that the operator changes: `Tensor(a!) x`."""
    return any("!" in argument for argument in _arguments(schema))


def _word(annotation: Any, function: str) -> str:
    """A type in words."""
    if annotation in WORDS:
        return WORDS[annotation]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        some = [part for part in parts if part is not type(None)]
        word = "Scalar" if len(some) > 1 and set(some) <= NUMBERS else _word(some[0], function)
        return word + "?" * (len(some) < len(parts))
    if origin in (list, tuple, Sequence) and parts and set(parts[1:]) <= {...}:
        return _word(parts[0], function) + "[]"
    raise ArgumentError(f"infer_schema({function}): expected a type of a schema, got {annotation}")


def infer_schema(
    prototype_function: Callable[..., Any],
    /,
    *,
    mutates_args: str | Iterable[str] = (),
    op_name: str | None = None,
    tags: Any = (),
) -> str:
    """The schema of a function with types, as PyTorch writes it."""
    name = prototype_function.__name__
    hints = typing.get_type_hints(prototype_function)
    words, by_name, changed = [], False, 0
    for each in inspect.signature(prototype_function).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not by_name:
            by_name = True
            words.append("*")
        if each.name not in hints:
            raise ArgumentError(f"infer_schema({name}): expected a type of {each.name}, got none")
        word = _word(hints[each.name], name)
        unknown = mutates_args == "unknown" and word.startswith("Tensor")
        if unknown or (mutates_args != "unknown" and each.name in mutates_args):
            word = word.replace("Tensor", f"Tensor(a{changed}!)", 1)
            changed += 1
        default = "" if each.default is each.empty else f"={_default(each.default)}"
        words.append(f"{word} {each.name}{default}")
    made = hints.get("return", type(None))
    if made is type(None):
        result = "()"
    elif typing.get_origin(made) is tuple:
        result = f"({', '.join(_word(part, name) for part in typing.get_args(made))})"
    else:
        result = _word(made, name)
    return f"{op_name or ''}({', '.join(words)}) -> {result}"


def _default(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).removeprefix("gradient.").removeprefix("torch.")  # of a dtype
