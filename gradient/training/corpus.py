"""From text files to two memory-mapped rows of tokens, one to train on and one held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradient.data import TokenFile, encode_corpus
from gradient.errors import ArgumentError
from gradient.io.atomic import write_text
from gradient.text import Tokenizer, byte_level, train_bpe
from gradient.training.config import TrainConfig
from gradient.training.documents import Document, find_files, read_all, split

if TYPE_CHECKING:
    import numpy as np

#: Describes the token files beside it.
RECORD = "corpus.json"


@dataclass(frozen=True)
class Corpus:
    """Tokenised text: `train` and `val` are 1-D memory-mapped arrays, documents end to end."""

    tokenizer: Tokenizer
    train: np.ndarray
    val: np.ndarray
    source: str  # where the text came from, for people
    documents: int
    characters: int
    val_bytes_per_token: float
    fingerprint: str  # of the text and of all that decides its tokens


def prepare(
    config: TrainConfig,
    folder: Path,
    note: Callable[[str], None] = lambda message: None,
    *,
    reuse: bool = False,
) -> Corpus:
    """Read, tokenise and map the text of `config`; a second call finds its work in `folder`.

    The text is read one document at a time and never held together.

    Args:
        folder: receives train.bin, val.bin, the tokenizer's files and corpus.json.
        note: told what is being done, one sentence at a time.
        reuse: take what is in `folder`, if it is whole, without looking at the text again: a run
            goes on with the tokens it began with, though its text may have changed since.

    Raises:
        ArgumentError: no text, or too little for one sequence.
    """
    record = _record(folder)
    if record is None or not reuse:
        record = _up_to_date(config, folder, record, note)
    train, val = (TokenFile(folder / name).array for name in ("train.bin", "val.bin"))
    if len(train) <= config.block_size:
        raise ArgumentError(
            f"paths: {len(train)} tokens to train on are too few for one sequence of "
            f"block_size={config.block_size}; give more text or a smaller --block-size"
        )
    return Corpus(Tokenizer.from_folder(folder), train, val, **record)


def _record(folder: Path) -> dict[str, Any] | None:
    """What corpus.json says; it is written last, so the files that it speaks of are whole."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _up_to_date(
    config: TrainConfig,
    folder: Path,
    record: dict[str, Any] | None,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """The record of token files that fit the text as it is now, which are made if need be."""
    source = ", ".join(config.paths) if config.paths else "the Python standard library"
    files = find_files(config.paths, config.glob, config.out)
    documents, text_hash = read_all(files)
    given = _given_tokenizer(config)
    vocabulary = given.backend.to_str() if given else f"{config.tokenizer} {config.vocab_size}"
    settings = f"{text_hash} {config.val_fraction} {vocabulary}"
    fingerprint = hashlib.sha256(settings.encode()).hexdigest()
    if record is not None and record["fingerprint"] == fingerprint:
        return record
    characters = sum(map(len, documents))
    note(f"read {len(documents)} files, {characters / 1e6:.2f} M characters, from {source}")
    read = {document.file for document in documents}
    if config.paths and (others := [str(file.path) for file in files if file not in read]):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        note(f"left out, as empty or not UTF-8 text: {', '.join(others[:3])}{more}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    record = {
        "source": source,
        "documents": len(documents),
        "characters": characters,
        "fingerprint": fingerprint,
        "val_bytes_per_token": _tokenise(config, folder, given, documents, note),
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def _given_tokenizer(config: TrainConfig) -> Tokenizer | None:
    """The tokenizer that need not be trained, if the config asks for such a one."""
    if config.tokenizer == "bpe":
        return None
    if config.tokenizer == "bytes":
        return byte_level()
    tokenizer = Tokenizer.from_folder(config.tokenizer)
    if tokenizer.eos_id is None:
        raise ArgumentError(
            f"tokenizer: the one in {config.tokenizer!r} has no end-of-text token, which separates "
            "the documents; add an eos_token to its tokenizer_config.json"
        )
    return tokenizer


def _tokenise(
    config: TrainConfig,
    folder: Path,
    tokenizer: Tokenizer | None,
    documents: Sequence[Document],
    note: Callable[[str], None],
) -> float:
    """Write the token files and the tokenizer; return the held-out text's bytes per token."""
    train, val = split(documents, config.val_fraction)
    if tokenizer is None:
        note(f"learning a vocabulary of {config.vocab_size} tokens")
        tokenizer = train_bpe(_texts(train), config.vocab_size)
    tokenizer.save(folder)
    note(f"encoding with {tokenizer.vocab_size} tokens")
    encode_corpus(_texts(train), tokenizer, folder / "train.bin")
    tokens = len(encode_corpus(_texts(val), tokenizer, folder / "val.bin"))
    return sum(len(text.encode()) for text in _texts(val)) / max(tokens, 1)


def _texts(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        yield document.read()
