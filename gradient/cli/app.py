"""The commands by name. This module imports no weights, tokenizer or kernel, so help is fast."""

from __future__ import annotations

import io
import pkgutil
import sys
from collections import UserDict
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from gradient.cli.errors import command

#: The commands and their functions, in the order of the help.
COMMANDS = {
    "generate": "gradient.cli.generate:generate",
    "chat": "gradient.cli.chat:chat",
    "train": "gradient.cli.train:train",
    "convert": "gradient.cli.convert:convert",
    "quantize": "gradient.cli.quantize:quantize",
    "tokenize": "gradient.cli.tokenize:tokenize",
    "info": "gradient.cli.info:info",
    "memory": "gradient.cli.memory:memory",
    "diff": "gradient.cli.diff:diff",
    "check": "gradient.cli.check:check",
    "plugin": "gradient.cli.plugin:plugin",
    "doctor": "gradient.cli.doctor:doctor",
    "bench": "gradient.cli.bench:bench",
    "eval": "gradient.cli.eval:evaluate",
}


#: Earlier names of commands, which still work.
RENAMED = {"plan": "memory"}


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> list[Any]:
        return without_types_of_flags(super().get_params(ctx))


def without_types_of_flags(params: list[Any]) -> list[Any]:
    """Remove the type from the help of flags without a value."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


def unwrapped(text: str) -> str:
    """Each paragraph as one line, for the terminal to break; Typer keeps line breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


class Commands(UserDict[str, Any]):
    """The commands, each imported at first use: `gradient memory` loads no sampler."""

    def __getitem__(self, name: str) -> Any:
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        function = command(pkgutil.resolve_name(self.data[name]))
        one.command(name, cls=Command, help=unwrapped(function.__doc__ or ""))(function)
        return typer.main.get_command(one)


class Group(TyperGroup):
    """`gradient` itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands(COMMANDS)

    def get_params(self, ctx: Any) -> list[Any]:
        return without_types_of_flags(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; for an earlier name, with a note about the new one."""
        if cmd_name in RENAMED:
            new = RENAMED[cmd_name]
            typer.echo(f"gradient {cmd_name} is now called gradient {new}", err=True)
            cmd_name = new
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="gradient",
    cls=Group,
    help="Train language models and run them, from readable Python.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from gradient import __version__

        typer.echo(f"gradient {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train language models and run them, from readable Python."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a locale without the character: "?"
            stream.reconfigure(errors="replace")
