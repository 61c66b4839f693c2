"""Progress of work on many bytes: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from gradient.cli.output import byte_size

#: Seconds between two lines if there is no terminal.
LINE_EVERY = 10.0


@contextmanager
def byte_progress(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (bytes done, total bytes) that shows progress, rate and remaining time.

    It writes to standard error, so that a pipe gets only results.

    Args:
        quiet: show nothing.
    """
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn(title),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _Lines(title)


class _Lines:
    """Reports to a log: `writing: 1.2 GiB of 4.1 GiB, 310.0 MiB/s, 9 s left`."""

    def __init__(self, title: str):
        self.title = title
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < LINE_EVERY:
            return
        self.last = now
        rate = done / (now - self.began)
        left = (total - done) / rate if rate else 0.0
        typer.echo(
            f"{self.title}: {byte_size(done)} of {byte_size(total)}, {byte_size(rate)}/s, "
            f"{left:.0f} s left",
            err=True,
        )
