"""`gradient check`: do the gradients hold on this machine?"""

from __future__ import annotations

from typing import Annotated

import typer

from gradient.cli import options as opt
from gradient.cli.output import print_json, print_table


def check(
    ops: Annotated[
        list[str] | None, typer.Argument(help="Names of ops; none: all of the table.")
    ] = None,
    device: opt.Device = "cpu",
    second: Annotated[
        bool, typer.Option("--second", help="Check second derivatives, too (slower).")
    ] = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Hold every differentiable op's gradient to finite differences, in float64.

    The exit code is 1 if one fails.
    """
    results = [
        _checked(name, samples, device, second) for name, samples in _chosen(ops or []).items()
    ]
    failed = [result for result in results if result["error"]]
    if as_json:
        print_json({"device": device, "ops": results, "failed": len(failed)})
    else:
        rows = [
            (
                result["op"],
                str(result["samples"]),
                f"{result['seconds'] * 1e3:.0f} ms",
                "failed: " + result["error"].splitlines()[0] if result["error"] else "ok",
            )
            for result in results
        ]
        print_table(("op", "samples", "time", "gradient"), rows)
        typer.echo(f"{len(results) - len(failed)} of {len(results)} ops passed on {device}")
        for result in failed:
            typer.echo(f"\n{result['op']}:\n{result['error']}")
    if failed:
        raise typer.Exit(1)
