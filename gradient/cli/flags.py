"""Flags that a command takes from a list of declared settings instead of its own parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer


def flag(
    name: str, kind: Any, *names: str, default: Any = None, **options: Any
) -> inspect.Parameter:
    """Return the parameter of a command that is a flag; it is None where it is not given.

    Args:
        name: what the command calls it.
        kind: the type of its value.
        names: the flag's own names; default: that of the parameter.
        default: its value where it is not given.
        options: as of `typer.Option`.
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
