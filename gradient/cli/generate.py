"""`gradient generate`: continue a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli import sampling
from gradient.cli.flags import spell_out
from gradient.cli.loading import load_language_model
from gradient.cli.output import print_json
from gradient.cli.turns import take_any_bytes, valid_unicode
from gradient.training.reporters import visible

if TYPE_CHECKING:
    from gradient.generation import Generation


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The text to continue; none or -: read standard input."),
    ] = None,
    model: opt.Model = "tinyworld",
    echo: Annotated[
        bool, typer.Option("--echo/--no-echo", help="Print the prompt before its continuation.")
    ] = True,
    device: opt.Device = "cpu",
    dtype: opt.DType = None,
    quantize: opt.Quantize = None,
    tokenizer: opt.Tokenizer = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    verbose: opt.Verbose = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
    **given: Any,
) -> None:
    """Continue a text, streaming it as it is generated.

    With --json one document is printed at the end: text, token_ids, finish_reason, seed, timings;
    with --num-return-sequences a list of them under "continuations".
    """
    given = sampling.read(given)
    for name in sampling.NEED_JSON:
        if name in given and not as_json:
            raise typer.BadParameter("needs --json", param_hint=sampling.flag_names(name)[0])
    text = read_prompt(prompt)
    place: dict[str, Any] = {"device": device, "dtype": dtype, "offline": offline}
    place |= {"quantize": quantize, "tokenizer": tokenizer, "quiet": as_json}
    language_model = load_language_model(model, revision=revision, **place)
    _ = language_model.tokenizer  # fails here if there is none
    given = sampling.with_draft(given, **place)
    options: Any = sampling.with_defaults(given, language_model.recommended)
    if as_json:
        found = language_model.generate(text, **options)
        if isinstance(found, list):
            whole: dict[str, Any] = {"continuations": [each.to_json() for each in found]}
        else:
            whole = found.to_json()
        if verbose:
            for each in found if isinstance(found, list) else [found]:
                report(each)
        print_json({"model": model, "prompt": text, **whole})
        return
    pieces = language_model.stream(text, **options)  # wrong options fail here, before any output
    first = next(filter(None, pieces), "")  # before it a line may report that kernels are compiled
    if echo:
        show_prompt(text)
    write(first)
    for piece in pieces:
        write(piece)
    write("\n")
    if verbose:
        report(pieces.generation)


spell_out(generate, sampling.generation_flags(max_new_tokens=200))


def report(generation: Generation) -> None:
    """Print the text's timings, and why it ended, on standard error."""
    reason = generation.finish_reason or "interrupted"
    if generation.stop_string is not None:
        reason += f" at {generation.stop_string!r}"
    typer.echo(f"[{generation.timings}; {reason}]", err=True)


def read_prompt(argument: str | None, name: str = "PROMPT") -> str:
    """The prompt argument, else standard input if it is a pipe or a file.

    Args:
        name: the argument's name in the command.

    Raises:
        typer.BadParameter: there is neither.
    """
    if argument is not None and argument != "-":
        return valid_unicode(argument)
    if argument is None and sys.stdin.isatty():
        raise typer.BadParameter(f"give a {name}, or pipe one in", param_hint=name)
    take_any_bytes()
    text = sys.stdin.read()
    # The last newline, of an editor or echo, is not part of the prompt.
    return valid_unicode(text.removesuffix("\n"))


def write(text: str) -> None:
    """Print a model's text at once; on a terminal, its escape sequences have no effect."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def show_prompt(text: str) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(soft_wrap=True).print(Text(text, style="bold"), end="")
    else:
        sys.stdout.write(text)
