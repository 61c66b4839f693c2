"""`gradient eval`: a model's perplexity on a text."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.loading import load_language_model
from gradient.cli.output import print_json, print_table

if TYPE_CHECKING:
    from gradient.generation import LanguageModel


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's folder, file or hub id.")],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=opt.named_path,
            help="Files and folders of text; .json (a list of texts) and .jsonl (a text a line, or "
            'objects with "text") hold many. If there are none, standard input is read.',
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", min=2, help="Tokens in a window.", show_default="the model's"),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride", min=1, help="Tokens between windows.", show_default="half the context"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Take the first so many texts.")
    ] = None,
    tokenizer: opt.Tokenizer = None,
    device: opt.Device = "cpu",
    dtype: opt.DType = None,
    quantize: opt.Quantize = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Measure a model's perplexity on any text, in windows with a stride."""
    texts = read_texts(paths or [])[:limit]
    language_model = load_language_model(
        model,
        quiet=as_json,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        quantize=quantize,
        revision=revision,
        offline=offline,
    )
    report = {"model": model, **score(language_model, texts, context, stride)}
    if as_json:
        print_json(report)
        return
    rows = [
        ("perplexity", f"{report['perplexity']:.4f}"),
        ("nats a token", f"{report['nll']:.4f}"),
        ("bits a byte", f"{report['bits_per_byte']:.4f}"),
        ("texts", f"{report['texts']:,}"),
        ("tokens", f"{report['tokens']:,}"),
        ("windows", f"{report['context']} tokens, one every {report['stride']}"),
        ("speed", f"{report['tokens_per_second']:.0f} tokens/s"),
    ]
    print_table((model, ""), rows)


def score(
    language_model: LanguageModel, texts: list[str], context: int | None, stride: int | None
) -> dict[str, Any]:
    """Perplexity of texts, with a progress bar on a terminal.

    Raises:
        ArgumentError: no text has two tokens.
    """
    from rich.console import Console
    from rich.progress import Progress

    from gradient.evaluation import perplexity

    ids = language_model.tokenizer.encode_batch(texts)
    begun = time.perf_counter()
    with Progress(
        *Progress.get_default_columns(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("tokens", total=sum(max(len(text) - 1, 0) for text in ids))
        found = perplexity(
            language_model.model,
            ids,
            context=context,
            stride=stride,
            progress=lambda tokens: bar.advance(task, tokens),
        )
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return {
        "perplexity": found.perplexity,
        "nll": found.nll,
        "bits_per_byte": found.bits_per_byte(size),
        "tokens": found.tokens,
        "texts": len(texts),
        "bytes": size,
        "context": found.context,
        "stride": found.stride,
        "tokens_per_second": found.tokens / (time.perf_counter() - begun),
    }


def read_texts(paths: list[Path]) -> list[str]:
    """The texts in these files, or on standard input.

    Raises:
        ArgumentError: a path does not exist, or there is no text.
        FileFormatError: a .json or .jsonl file has no texts.
    """
    from gradient.errors import ArgumentError
    from gradient.training.documents import find_files

    if not paths:
        return [sys.stdin.read()]
    texts: list[str] = []
    for file in find_files([str(path) for path in paths]):
        content = file.read()
        if content is None:
            continue
        if file.path.suffix in (".json", ".jsonl"):
            texts += _from_json(file.path, content)
        else:
            texts.append(content)
    if not texts:
        raise ArgumentError(f"paths: no text in {', '.join(map(str, paths))}")
    return texts


def _from_json(path: Path, content: str) -> list[str]:
    from gradient.errors import FileFormatError

    try:
        if path.suffix == ".jsonl":
            values = [json.loads(line) for line in content.split("\n") if line.strip()]
        else:
            values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not proper JSON: {error}") from None
    texts: list[str] = []
    for value in values if isinstance(values, list) else [None]:
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise FileFormatError(f'{path}: expected a list of texts, or of objects with "text"')
        texts.append(text)
    return texts
