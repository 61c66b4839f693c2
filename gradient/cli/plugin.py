"""`gradient plugin check COMMAND`: does a program follow the plugin protocol?"""

from __future__ import annotations

import math
import shlex
from typing import Annotated

import typer

from gradient.cli import check as table
from gradient.cli import options as opt
from gradient.errors import ArgumentError

DEVICE = "plugin"


def plugin(
    action: Annotated[str, typer.Argument(help="What to do: check.")],
    command: Annotated[str, typer.Argument(help="The plugin's command, in one argument.")],
    ops: Annotated[
        list[str] | None, typer.Argument(help="Names of ops; none: all of the table.")
    ] = None,
    second: Annotated[
        bool, typer.Option("--second", help="Check second derivatives, too (slower).")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that the plugin may take to answer.")
    ] = 60.0,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Check a device of another program (docs/plugin-protocol.md) by the op table.

    Compares every op's values with a reference, and its gradient with finite differences, in
    float64, like `gradient check`. The exit code is 1 if one fails.
    """
    from gradient.backends import process

    if action != "check":
        raise ArgumentError(f"plugin: expected check, got {action!r}")
    if not 0 < timeout < math.inf:
        raise ArgumentError(f"timeout: expected a finite number of seconds above 0, got {timeout}")
    words = shlex.split(command)
    if not words:
        raise ArgumentError("plugin: expected a command, got none")
    process.register(DEVICE, words, timeout)
    table.check(ops, DEVICE, second, as_json, debug)
