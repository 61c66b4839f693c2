"""`gradient tokenize`: the tokens of a text, or the text of tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.generate import read_prompt, write
from gradient.cli.output import print_json, print_table

if TYPE_CHECKING:
    from gradient.text import Tokenizer


def tokenize(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's folder or hub id, or a file: tokenizer.json, .model, .bin, .gguf."
        ),
    ],
    text: Annotated[
        str | None, typer.Argument(help="The text; none or -: read standard input.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", exists=True, dir_okay=False, help="Read the text from this file."
        ),
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option("--decode", help='Token ids to turn into text: "15496 995" or "15496,995".'),
    ] = None,
    special: Annotated[
        bool,
        typer.Option("--special/--no-special", help="Add the tokens that begin and end a text."),
    ] = True,
    parse_special: Annotated[
        bool,
        typer.Option(
            "--parse-special/--literal",
            help="Whether <|endoftext|> and the like in the text are tokens or characters.",
        ),
    ] = True,
    count: Annotated[
        bool, typer.Option("--count", help="Print the number of tokens only.")
    ] = False,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show how a model's tokenizer splits a text: ids, pieces and the text of each.

    Weights are neither read nor downloaded. With --json one document is printed: ids, pieces,
    special, count, characters.
    """
    if decode is not None:
        if text is not None or file is not None:
            raise typer.BadParameter("takes ids alone, and no text", param_hint="--decode")
        tokenizer = _find(model, revision=revision, offline=offline)
        _decode(tokenizer, decode, skip_special_tokens=not special, as_json=as_json)
        return
    if file is not None and text is not None:
        raise typer.BadParameter("give TEXT or a file, not both", param_hint="--file")
    if file is None:
        content = read_prompt(text, "TEXT")
    else:
        content = file.read_text("utf-8", errors="replace")
    tokenizer = _find(model, revision=revision, offline=offline)
    ids = tokenizer.encode(content, add_special_tokens=special, parse_special=parse_special)
    if as_json:
        print_json(_described(tokenizer, content, ids))
    elif count:
        typer.echo(len(ids))
    else:
        _print(tokenizer, content, ids)


def _find(name: str, *, revision: str | None, offline: bool) -> Tokenizer:
    from gradient import hub
    from gradient.checkpoints import open_checkpoint
    from gradient.errors import FileFormatError
    from gradient.text import Tokenizer

    path = Path(name).expanduser()
    if path.is_file():
        try:
            return Tokenizer.from_file(path)
        except FileFormatError:
            if path.suffix not in (".bin", ".txt"):
                raise
            # A model's weights: the tokenizer is beside them.
            return open_checkpoint(path).load_tokenizer()
    # For a model on the hub, naming its config fetches all files except weights.
    remote = not path.exists() and name not in hub.embedded_models() and ".gguf" not in name
    file = "config.json" if remote else None
    found = hub.find(name, file=file, revision=revision, offline=offline)
    return open_checkpoint(found.parent if remote else found).load_tokenizer()


def _decode(tokenizer: Tokenizer, ids: str, *, skip_special_tokens: bool, as_json: bool) -> None:
    numbers = [part for part in re.split(r"[\s,\[\]]+", ids) if part]
    wrong = next((part for part in numbers if not part.isdecimal()), None)
    if wrong is not None:
        raise typer.BadParameter(f"expected token ids, got {wrong!r}", param_hint="--decode")
    tokens = [int(part) for part in numbers]
    if beyond := next((number for number in tokens if number >= 2**31), None):
        raise typer.BadParameter(
            f"expected token ids below 2**31, got {beyond}", param_hint="--decode"
        )
    unknown = [str(number) for number in tokens if tokenizer.id_to_token(number) is None]
    if unknown:  # no error: a model with a padded vocabulary may generate them
        typer.echo(f"note: no token has the id {', '.join(dict.fromkeys(unknown))}", err=True)
    text = tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
    if as_json:
        print_json({"ids": tokens, "text": text, "count": len(tokens)})
    else:
        write(text + "\n")


def _described(tokenizer: Tokenizer, text: str, ids: list[int]) -> dict[str, Any]:
    return {
        "ids": ids,
        "pieces": [tokenizer.id_to_token(number) for number in ids],
        "special": [number in tokenizer.special_ids for number in ids],
        "count": len(ids),
        "characters": len(text),
        "vocab_size": tokenizer.vocab_size,
    }


def _print(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    rows = []
    for number in ids:
        piece = tokenizer.id_to_token(number) or ""
        shown = tokenizer.token_bytes(number)
        meaning = repr(shown.decode("utf-8")) if _is_text(shown) else repr(shown)
        special = number in tokenizer.special_ids
        rows.append([str(number), _visible(piece), "special" if special else meaning])
    print_table(["id", "piece", "text"], rows)
    rate = f", {len(text) / len(ids):.2f} characters a token" if ids else ""
    typer.echo(f"{len(ids)} tokens, {len(text)} characters{rate}")


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _visible(piece: str) -> str:
    """A piece on one line: line breaks and other control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in piece)
