"""`gradient generate`: continue a text."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import print_json
from gradient.training.reporters import visible


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The text to continue; none or -: read standard input."),
    ] = None,
    model: opt.Model = "pycoder",
    max_new_tokens: opt.MaxNewTokens = 200,
    temperature: opt.Temperature = 0.7,
    top_k: opt.TopK = 0,
    top_p: opt.TopP = 0.95,
    min_p: opt.MinP = 0.0,
    repetition_penalty: opt.RepetitionPenalty = None,
    seed: opt.Seed = None,
    stop: opt.Stop = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the end-of-text token.")
    ] = False,
    logprobs: Annotated[
        int | None,
        typer.Option("--logprobs", min=0, help="With --json: the k best log-probabilities, too."),
    ] = None,
    echo: Annotated[
        bool, typer.Option("--echo/--no-echo", help="Print the prompt before its continuation.")
    ] = True,
    device: opt.Device = "cpu",
    dtype: opt.DType = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Continue a text, streaming it as it is generated.

    With --json one document is printed at the end: text, token_ids, finish_reason, timings.
    """
    text = read_prompt(prompt)
    from gradient import hub

    language_model = hub.load_language_model(
        model, device=device, dtype=dtype, revision=revision, offline=offline
    )
    sampling: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": opt.repetition_penalty(repetition_penalty, temperature),
        "seed": seed,
        "stop": list(stop or []),
        "ignore_eos": ignore_eos,
    }
    if as_json:
        generation: Any = language_model.generate(text, logprobs=logprobs, **sampling)
        print_json({"model": model, "prompt": text, **generation.to_json()})
        return
    pieces = language_model.stream(text, **sampling)  # wrong options fail here, before any output
    if echo:
        show_prompt(text)
    for piece in pieces:
        write(piece)
    write("\n")


def read_prompt(argument: str | None) -> str:
    """The prompt given as argument, else standard input if it is a pipe or a file.

    Raises:
        typer.BadParameter: there is neither.
    """
    if argument is not None and argument != "-":
        return argument
    if argument is None and sys.stdin.isatty():
        raise typer.BadParameter("give a PROMPT, or pipe one in", param_hint="PROMPT")
    text = sys.stdin.read()
    # An editor's or echo's last newline is not part of what is to be continued.
    return text.removesuffix("\n")


def write(text: str) -> None:
    """Show a model's text at once; on a terminal, none of it may act as an escape sequence."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def show_prompt(text: str) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(soft_wrap=True).print(Text(text, style="bold"), end="")
    else:
        sys.stdout.write(text)
