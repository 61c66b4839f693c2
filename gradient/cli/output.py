"""Tables and documents: rich on a terminal, plain in a pipe, JSON on request."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import typer


def print_json(value: Any) -> None:
    """Print one JSON document, which is correct in any locale.

    JSON has no infinities or NaN: they become null.
    """
    escaped = (sys.stdout.encoding or "").lower() != "utf-8"
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=escaped, allow_nan=False))


def _finite(value: Any) -> Any:
    """The value, with None in place of floats that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
) -> None:
    """A table: with borders and colours on a terminal, columns padded with spaces in a pipe.

    A cell that is `ok` is shown green, one that begins with `missing` or `failed` red.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")  # nothing is cut on a narrow screen
        for row in rows:
            table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
        Console().print(table)
        return
    if title:
        typer.echo(title)
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _style(cell: str) -> str:
    if cell == "ok":
        return "green"
    return "red" if cell.startswith(("missing", "failed")) else ""


def byte_size(count: float) -> str:
    """`4718592` as `4.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
