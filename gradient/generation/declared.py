"""Declarations of generation options: each option once, with its default, limits, help and flag.

An option stands in a `TypedDict`, which type checkers and editors read as the keyword arguments of
`generate`. What else is known of it is the `Option` in its `Annotated`, which the chain of logits
processors, the command line and the documentation read. `declared_by` makes of the whole a
dataclass that can check its values.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from gradient.checks import Limit
from gradient.generation.logits import LogitsProcessor

T = TypeVar("T")


class Option(NamedTuple):
    """The metadata of an option, besides its name and type.

    Attributes:
        default: its value where it is not given.
        help: what it does, for the documentation and the command line.
        limit: the values that it may have; None is any.
        flag: the command line's names for it, such as "--beams"; "" is its own name, None is none.
        panel: its heading in the command line's help.
        processor: makes the logits processor from the option's value; further parameters are
            other options, `eos_ids` or `uniform` (a `UniformDraw`), by their names.
        neutral: the value, beside the default, for which there is no processor.
        sampling: whether it says how tokens are drawn, and so means nothing at temperature 0.
    """

    default: Any
    help: str
    limit: Limit | None = None
    flag: str | None = ""
    panel: str = "Choosing tokens"
    processor: Callable[..., LogitsProcessor] | None = None
    neutral: Any = None
    sampling: bool = False


def declared(options: type) -> dict[str, Option]:
    """Return the declared metadata of each option of a TypedDict."""
    return {name: hint.__metadata__[0] for name, hint in options.__annotations__.items()}


def declared_by(options: type) -> Callable[[type[T]], type[T]]:
    """Class decorator: make the options of a TypedDict the fields of a frozen dataclass.

    Their help is added to the class's docstring. The class repeats the options' types as its
    attributes', since no type checker makes them of a TypedDict.

    Raises:
        TypeError: it does not.
    """

    def make(cls: type[T]) -> type[T]:
        types = {name: hint.__origin__ for name, hint in options.__annotations__.items()}
        repeated = {name: hint for name, hint in cls.__annotations__.items() if name in types}
        if wrong := {name for name, hint in types.items() if repeated.get(name) != hint}:
            raise TypeError(f"{cls.__name__}: {sorted(wrong)} need the types of the options")
        for name, option in declared(options).items():
            metadata = {} if option.limit is None else {"limit": option.limit}
            setattr(cls, name, dataclasses.field(default=option.default, metadata=metadata))
        helps = [f"    {name}: {option.help}." for name, option in declared(options).items()]
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Attributes:", *helps])
        return dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    return make
