"""`gradient generate`: continue a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli import sampling
from gradient.cli.loading import load_language_model, tokenizer_of
from gradient.cli.output import print_json
from gradient.training.reporters import visible

if TYPE_CHECKING:
    from gradient.generation import Generation


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The text to continue; none or -: read standard input."),
    ] = None,
    model: opt.Model = "tinyworld",
    max_new_tokens: opt.MaxNewTokens = 200,
    temperature: sampling.Temperature = None,
    top_k: sampling.TopK = None,
    top_p: sampling.TopP = None,
    min_p: sampling.MinP = None,
    typical: sampling.Typical = None,
    repetition_penalty: sampling.RepetitionPenalty = None,
    presence_penalty: sampling.PresencePenalty = None,
    frequency_penalty: sampling.FrequencyPenalty = None,
    logit_bias: sampling.LogitBias = None,
    no_repeat_ngram: sampling.NoRepeatNgram = None,
    min_new_tokens: sampling.MinNewTokens = None,
    beams: sampling.Beams = None,
    length_penalty: sampling.LengthPenalty = None,
    seed: sampling.Seed = None,
    stop: sampling.Stop = None,
    json_schema: sampling.JsonSchema = None,
    regex: sampling.Regex = None,
    choice: sampling.Choice = None,
    grammar: sampling.Grammar = None,
    draft: sampling.Draft = None,
    cache: sampling.Cache = None,
    cache_dtype: sampling.CacheDType = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the end-of-text token.")
    ] = False,
    beyond_context: Annotated[
        bool,
        typer.Option(
            "--beyond-context", help="Go on beyond the context that the model was trained for."
        ),
    ] = False,
    logprobs: Annotated[
        int | None,
        typer.Option("--logprobs", min=0, help="With --json: the k best log-probabilities, too."),
    ] = None,
    several: Annotated[
        int | None,
        typer.Option("--num-return-sequences", min=1, help="With --json: so many texts."),
    ] = None,
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
) -> None:
    """Continue a text, streaming it as it is generated.

    With --json one document is printed at the end: text, token_ids, finish_reason, seed, timings;
    with --num-return-sequences a list of them under "continuations".
    """
    if (several is not None or logprobs is not None) and not as_json:
        raise typer.BadParameter("needs --json", param_hint="--num-return-sequences, --logprobs")
    bias = sampling.parse_logit_bias(logit_bias)
    text = read_prompt(prompt)
    place: dict[str, Any] = {"device": device, "dtype": dtype, "offline": offline}
    place |= {"quantize": quantize, "tokenizer": tokenizer, "quiet": as_json}
    language_model = load_language_model(model, revision=revision, **place)
    tokenizer_of(language_model)
    given: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "logit_bias": bias,
        "no_repeat_ngram_size": no_repeat_ngram,
        "min_new_tokens": min_new_tokens,
        "num_beams": beams,
        "length_penalty": length_penalty,
        "seed": seed,
        "stop": stop or None,
        "json_schema": sampling.read_text(json_schema),
        "regex": regex,
        "choices": choice or None,
        "grammar": sampling.read_text(grammar),
        "cache": cache,
        "cache_dtype": cache_dtype,
        "ignore_eos": ignore_eos,
        "beyond_context": beyond_context,
        "num_return_sequences": several,
        "logprobs": logprobs,
    }
    if draft == "prompt_lookup":
        given["draft"] = draft
    elif draft is not None:
        given["draft"] = load_language_model(draft, **place)
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
    if echo:
        show_prompt(text)
    for piece in pieces:
        write(piece)
    write("\n")
    if verbose:
        report(pieces.generation)


def report(generation: Generation) -> None:
    """Say on standard error what a text took, and why it ended."""
    reason = generation.finish_reason or "interrupted"
    if generation.stop_string is not None:
        reason += f" at {generation.stop_string!r}"
    typer.echo(f"[{generation.timings}; {reason}]", err=True)


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
