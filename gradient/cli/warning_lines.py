"""Warnings as one plain line each on standard error, without the source line that Python adds."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO


def show_as_lines() -> None:
    """Show this process's warnings in this way from now on."""
    warnings.showwarning = _show


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    stream = file or sys.stderr
    if stream is not None:
        stream.write(f"warning: {' '.join(str(message).split())}\n")
        stream.flush()
