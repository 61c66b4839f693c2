"""Flags of a command that are made from declared settings instead of its own parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer


def flag(
    name: str, kind: Any, *names: str, default: Any = None, **options: Any
) -> inspect.Parameter:
    """Return the parameter of a command for a flag; its value is None if the flag is not given.

    Args:
        name: the parameter's name.
        kind: the type of its value.
        names: the flag's own names; default: that of the parameter.
        default: the default value.
        options: arguments of `typer.Option`.
    """
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None, typer.Option(*names, **options)],
    )


def spell_out(function: Callable[..., Any], flags: Iterable[inspect.Parameter]) -> None:
    """Replace a command's `**settings` by these flags."""
    signature = inspect.signature(function, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *flags]
    )
