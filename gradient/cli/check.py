"""`gradient check`: are values and gradients correct on this machine?"""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import print_json, print_table
from gradient.errors import ArgumentError

if TYPE_CHECKING:
    from gradient.testing import Row

CHECKS = ("values", "gradient", "second")


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
    """Compare every op's values with a reference, and its gradient with finite differences.

    In float64, on the op table of the tests; rows of complex numbers if the device supports
    them. The exit code is 1 if one fails.
    """
    from gradient import backends

    backends.get(device)  # one error if it is missing, rather than one for each op
    chosen = choose(ops or [])
    rows = chosen if _has_complex(device) else [row for row in chosen if not _is_complex(row)]
    results = [checked(row, device, second) for row in rows]
    failed = [result for result in results if result["failures"]]
    if as_json:
        print_json({"device": device, "ops": results, "failed": len(failed)})
    else:
        _print(results, device)
        if len(rows) < len(chosen):
            left = len(chosen) - len(rows)
            typer.echo(f"{left} of complex numbers left out: {device} has none")
    if failed:
        raise typer.Exit(1)


def _is_complex(row: Row) -> bool:
    """Whether a row has complex inputs or results."""
    return row.kind in ("complex", "double")


def _has_complex(device: str) -> bool:
    import gradient
    from gradient.errors import BackendError

    try:
        gradient.tensor(1j, dtype=gradient.complex128, device=device)
    except BackendError:
        return False
    return True


def choose(names: list[str]) -> list[Row]:
    """The rows of the op table for these ops; all if there are no names.

    Raises:
        ArgumentError: there is no op of this name; the message has the nearest one.
    """
    from gradient.testing import TABLE

    known = {row.op for row in TABLE}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            )
            raise ArgumentError(f"check: {name!r} is no op{hint}")
    return [row for row in TABLE if not names or row.op in names]


def checked(row: Row, device: str, second: bool) -> dict[str, Any]:
    """The checks that were made for one row, and the report of each that failed."""
    import numpy as np

    import gradient
    from gradient.testing import assert_close, gradcheck, gradgradcheck

    def inputs(differentiable: bool) -> list[Any]:
        return [
            gradient.tensor(sample, device=device, requires_grad=differentiable)
            for sample in row.samples()
        ]

    def values() -> None:
        expected = np.asarray(row.reference(*row.samples()))
        got = row.run(*inputs(False))
        assert_close(got, expected, rtol=1e-10, atol=1e-10, check_dtype=False)

    work: dict[str, Any] = {"values": values}
    if row.differentiable:
        work["gradient"] = lambda: gradcheck(row.run, inputs(True))
        if second:
            work["second"] = lambda: gradgradcheck(row.run, inputs(True))
    failures = {}
    began = time.perf_counter()
    for name, run in work.items():
        try:
            run()
        except Exception as error:  # any failure on this machine is reported
            failures[name] = f"{type(error).__name__}: {error}"
    return {
        "op": row.op,
        "row": row.name,
        "checks": list(work),
        "failures": failures,
        "seconds": time.perf_counter() - began,
    }


def _print(results: list[dict[str, Any]], device: str) -> None:
    columns = [name for name in CHECKS if any(name in result["checks"] for result in results)]
    table = []
    for result in results:
        states = [
            "failed" if name in result["failures"] else "ok" if name in result["checks"] else "-"
            for name in columns
        ]
        table.append((result["row"], *states, f"{result['seconds'] * 1e3:.0f} ms"))
    print_table(("op", *columns, "time"), table)
    failed = [result for result in results if result["failures"]]
    typer.echo(f"{len(results) - len(failed)} of {len(results)} rows passed on {device}")
    for result in failed:
        for name, report in result["failures"].items():
            typer.echo(f"\n{result['row']}, {name}:\n{report}")
