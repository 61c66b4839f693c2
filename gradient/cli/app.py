"""The commands by name. Importing this imports no model, tokenizer or kernel: help stays fast."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from gradient.cli.bench import bench
from gradient.cli.chat import chat
from gradient.cli.check import check
from gradient.cli.convert import convert
from gradient.cli.diff import diff
from gradient.cli.doctor import doctor
from gradient.cli.errors import command
from gradient.cli.eval import evaluate
from gradient.cli.generate import generate
from gradient.cli.info import info
from gradient.cli.plan import plan
from gradient.cli.quantize import quantize
from gradient.cli.tokenize import tokenize
from gradient.cli.train import train

app = typer.Typer(
    name="gradient",
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


for _function in (
    generate,
    chat,
    train,
    convert,
    quantize,
    tokenize,
    info,
    plan,
    diff,
    check,
    doctor,
    bench,
):
    app.command()(command(_function))
app.command("eval")(command(evaluate))
