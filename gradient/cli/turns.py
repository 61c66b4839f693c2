"""The input of `gradient chat`: turns of one or several lines, and commands."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator

import typer

HELP = """\
/help          this
/reset         forget the conversation (or /clear)
/system TEXT   begin anew with these instructions; without TEXT, with none
/keep          never drop the last turn when the context is full
/undo          take back the last turn
/exit          leave (or /quit, /bye)"""
AT_TERMINAL = """
Ctrl-D leaves, too; Ctrl-C ends an answer.
A line that ends in \\ goes on with the next one. From \"\"\" to \"\"\" all lines are one turn.
Begin with a space to send a text that looks like a command."""
"""Further help for a terminal. In a pipe each line is a turn, without the spaces around it."""
GREETING = "/help lists the commands; Ctrl-C ends an answer; /exit (or Ctrl-D) leaves."
LEAVE = ("exit", "quit", "bye")
NAMES = ("help", "reset", "clear", "system", "keep", "undo", *LEAVE)
_QUOTES = '"""'


def take_any_bytes() -> None:
    """Let standard input keep bytes that are not UTF-8 for `valid_unicode`, instead of raising."""
    with contextlib.suppress(AttributeError):  # another kind of stream
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]


def valid_unicode(text: str) -> str:
    """The text, with U+FFFD for bytes that are not UTF-8.

    In an ASCII-only locale (LANG=C), the bytes of other characters come as surrogates.
    """
    readable = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
    return readable.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def turns() -> Iterator[str]:
    """Yield the user's turns, with a prompt on a terminal.

    In a pipe each line is a turn.
    """
    if not sys.stdin.isatty():
        take_any_bytes()
        for line in sys.stdin:
            if line.strip():
                yield valid_unicode(line.strip())
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (line editing and history for input())
    typer.echo(GREETING, err=True)
    while True:
        try:
            text = read_turn(input)
        except EOFError:
            typer.echo()
            return
        if text.strip():
            yield valid_unicode(text)


def read_turn(read_line: Callable[[str], str]) -> str:
    r"""One turn: a line, lines that end in a backslash with the one after, or a block in quotes.

    Args:
        read_line: takes a prompt, returns a line without its end.
    """
    line = read_line("> ")
    if line.lstrip().startswith(_QUOTES):
        first = line.lstrip().removeprefix(_QUOTES)
        lines = [first]
        while not lines[-1].rstrip().endswith(_QUOTES):
            lines.append(read_line(". "))
        lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
        return "\n".join(lines).strip("\n")
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read_line(". "))
    return "\n".join(lines)


def command_of(text: str, *, strict: bool) -> tuple[str, str] | None:
    """The name and the rest of a command; None for text that is sent to the model.

    Args:
        strict: treat an unknown "/name" with text after it as a command, too, as it may be a typing
            error. One without text is always treated as a command.
    """
    found = re.match(r"/([a-z]+)(?:\s+(.*))?$", text, re.DOTALL)
    if found is None or (not strict and found[2] and found[1] not in NAMES):
        return None
    return found[1], (found[2] or "").strip()
