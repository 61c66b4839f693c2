"""`gradient chat`: a conversation, line by line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli import sampling
from gradient.cli.generate import write
from gradient.cli.loading import load_language_model
from gradient.errors import GradientError

HELP = "Commands: /reset forgets the conversation, /exit (or Ctrl-D) leaves."


def chat(
    model: opt.Model = "pycoder",
    system: Annotated[
        str | None, typer.Option("--system", help="Instructions that precede the conversation.")
    ] = None,
    max_new_tokens: opt.MaxNewTokens = 512,
    temperature: sampling.Temperature = None,
    top_k: sampling.TopK = None,
    top_p: sampling.TopP = None,
    min_p: sampling.MinP = None,
    repetition_penalty: sampling.RepetitionPenalty = None,
    seed: sampling.Seed = None,
    stop: sampling.Stop = None,
    device: opt.Device = "cpu",
    dtype: opt.DType = None,
    quantize: opt.Quantize = None,
    tokenizer: opt.Tokenizer = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Talk with a model.

    One without a chat template is shown the conversation as a transcript to continue. In a pipe
    every line of standard input is one turn, and only the answers are printed; with --json each
    answer is one JSON line {"role", "content"}.
    """
    from gradient.generation import PromptCache

    language_model = load_language_model(
        model,
        quiet=as_json,
        device=device,
        dtype=dtype,
        quantize=quantize,
        tokenizer=tokenizer,
        revision=revision,
        offline=offline,
    )
    given: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or None,
    }
    options: Any = sampling.with_defaults(given, language_model.recommended)
    first = [{"role": "system", "content": system}] if system else []
    messages = list(first)
    # A turn's prompt is the whole conversation; this way only what is new in it is computed.
    options["prompt_cache"] = PromptCache(language_model.model)
    for line in _turns():
        if line == "/exit":
            break
        if line == "/reset":
            messages = list(first)
            continue
        messages.append({"role": "user", "content": line})
        pieces = []
        try:
            answer: Any = language_model.chat(messages, stream=True, **options)
            for piece in answer:
                pieces.append(piece)
                if not as_json:
                    write(piece)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise  # at a terminal, Ctrl-C ends the answer and not the conversation
        except GradientError as error:  # the context is full, or the template refuses the turn
            if not sys.stdin.isatty():
                raise
            messages.pop()
            typer.echo(f"error: {error}", err=True)
            continue
        messages.append({"role": "assistant", "content": "".join(pieces)})
        sys.stdout.write(json.dumps(messages[-1]) + "\n" if as_json else "\n")
        sys.stdout.flush()


def _turns() -> Iterator[str]:
    """What the user says, one line at a time, with a prompt if there is somebody to read it."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if line.strip():
                yield line.strip()
        return
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (line editing and history for input())
    typer.echo(HELP, err=True)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            typer.echo()
            return
        if line:
            yield line
