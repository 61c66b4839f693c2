"""Declarations of generation options: each option once, with its default, limits, help and flag.

An option is a key of a `TypedDict`, which type checkers and editors read as the keyword arguments
of `generate`. The `Option` in its `Annotated` holds the rest; the chain of logits processors, the
command line and the documentation are made from it. `declared_by` turns the `TypedDict` into a
dataclass that checks its values.
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
        default: the default value.
        help: a description, for the documentation and the command line.
        limit: the allowed values; None: any.
        flag: its flags on the command line, such as "--beams"; "": made from its name; None: no
            flag.
        panel: its heading in the command line's help.
        processor: a function that makes the logits processor from the option's value; its further
            parameters are other options, `eos_ids` or `uniform` (a `UniformDraw`), by name.
        neutral: another value, beside the default, that needs no processor.
        sampling: whether it changes how tokens are drawn, and so has no effect at temperature 0.
        help_of_flag: a description for the command line, if `help` has values that no flag takes.
    """

    default: Any
    help: str
    limit: Limit | None = None
    flag: str | None = ""
    panel: str = "Choosing tokens"
    processor: Callable[..., LogitsProcessor] | None = None
    neutral: Any = None
    sampling: bool = False
    help_of_flag: str | None = None


def declared(options: type) -> dict[str, Option]:
    """Return the declared metadata of each option of a TypedDict."""
    return {name: hint.__metadata__[0] for name, hint in options.__annotations__.items()}


def declared_by(options: type) -> Callable[[type[T]], type[T]]:
    """Class decorator: make the options of a TypedDict the fields of a frozen dataclass.

    Their help is added to the class's docstring. The class must repeat the types of the options as
    annotations, because type checkers cannot derive them from a TypedDict.

    Raises:
        TypeError: the annotations differ from the options.
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
