"""How a command fails: with a message and an exit code; a traceback only with --debug.

Exit codes: 1 for an error, 2 for wrong usage (Typer's own), 130 for Ctrl-C.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from gradient.errors import FileFormatError, GradientError


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command function: its exceptions become a message on standard error and a code.

    With `--json` the error goes to standard output as `{"error": {"type", "message"}}`, because
    programs read that. `--debug` lets every exception through.
    """

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        if options.get("debug"):
            return function(*args, **options)
        try:
            return function(*args, **options)
        except BrokenPipeError:
            _discard_output()  # the reader closed the pipe (as in `gradient generate | head -1`)
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except (GradientError, OSError) as error:
            message = str(error)
            if not isinstance(error, FileFormatError | OSError):  # a file's own text is not changed
                message = by_flags(message, function)
            fail(error, message, as_json=bool(options.get("as_json")))
        except MemoryError as error:
            message = f"there is not enough memory: {error}" if str(error) else "memory is used up"
            fail(error, message, as_json=bool(options.get("as_json")))
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise  # wrong usage: Typer prints it and exits with 2
            message = (
                f"{type(error).__name__}: {error}\nThis is a defect in gradient: run the command "
                "again with --debug, and report what it prints."
            )
            fail(error, message, as_json=bool(options.get("as_json")))

    return run


def by_flags(message: str, function: Callable[..., Any]) -> str:
    """Return the message with the command's flags instead of Python's names of the options.

    So "num_beams=2 searches" becomes "--beams 2 searches", "max_new_tokens" "--max-new-tokens".
    A name without an underscore may be an ordinary word, unless "=" follows it. For a flag without
    a value, "beyond_context=True" becomes "--beyond-context".
    """
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        declared = getattr(parameter.annotation, "__metadata__", ())
        # Within Annotated, Typer has the first name in the place of the default.
        names = [str(n) for info in declared for n in (info.default, *(info.param_decls or ()))]
        flag = next((each for each in names if each.startswith("--")), "--" + name)
        flag = flag.partition("/")[0].replace("_", "-")
        message = re.sub(rf"(?<![\w.-]){name}=True(?!\w)", flag, message)
        message = re.sub(rf"(?<![\w.-]){name}=(?=\S)", f"{flag} ", message)
        if "_" in name:
            message = re.sub(rf"(?<![\w.-]){name}(?!\w)", flag, message)
    return message


def fail(error: BaseException, message: str, *, as_json: bool) -> NoReturn:
    """Report an error and exit with code 1."""
    if as_json:
        document = json.dumps({"error": {"type": type(error).__name__, "message": message}})
        try:
            typer.echo(document)
        except OSError:  # standard output is what failed, as on a full disk
            _discard_output()
            typer.echo(f"error: {message}", err=True)
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), message))
    else:
        typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1) from None


def _discard_output() -> None:
    """Discard what standard output could not write: Python flushes it once more at exit, which must
    not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
