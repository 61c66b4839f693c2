"""The command line: `gradient generate`, `chat`, `train`, `convert`, `quantize` and the rest."""

from __future__ import annotations

import os
import sys

from gradient.cli.warning_lines import show_as_lines


def main() -> None:
    """Run the command line; the console script `gradient` and `python -m gradient` are this."""
    _open_streams()
    show_as_lines()
    try:
        try:
            import typer  # noqa: F401
        except ImportError:
            sys.exit("error: the command line needs typer and rich: pip install typer rich")
        from gradient.cli.app import app

        app(prog_name="gradient")
    except KeyboardInterrupt:  # before a command has begun: from there on it is seen to
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _open_streams() -> None:
    """Python has None for a stream that is closed from the start (`gradient ... >&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for as long as we run)


__all__ = ["main"]
