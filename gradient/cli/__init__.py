"""The command line: `gradient generate`, `chat`, `train`, `convert`, `quantize` and others."""

from __future__ import annotations

import os
import sys

from gradient.cli.warning_lines import show_as_lines


def main() -> None:
    """Run the command line, for the console script `gradient` and `python -m gradient`."""
    _open_streams()
    show_as_lines()
    try:
        try:
            import typer  # noqa: F401
        except ImportError:
            sys.exit("error: the command line needs typer and rich: pip install typer rich")
        from gradient.cli.app import app

        app(prog_name="gradient")
    except KeyboardInterrupt:  # before a command begins; later, commands handle it
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _open_streams() -> None:
    """Replace streams that are None because they are closed from the start (`gradient ... >&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for as long as we run)


__all__ = ["main"]
