"""From text files to two memory-mapped rows of tokens, one to train on and one held out."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import sysconfig
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradient.data import TokenFile, encode_corpus
from gradient.errors import ArgumentError
from gradient.io.atomic import write_text
from gradient.text import Tokenizer, byte_level, train_bpe
from gradient.training.config import TrainConfig

if TYPE_CHECKING:
    import numpy as np

RECORD = "corpus.json"

#: Folders of the standard library that would teach a small model little: tests, tables, prose.
STDLIB_SKIPPED = frozenset(
    ("test", "tests", "site-packages", "idlelib", "turtledemo", "encodings", "pydoc_data")
)


@dataclass(frozen=True)
class Document:
    """One file: its path, and the name that orders it (relative, with forward slashes)."""

    name: str
    path: Path

    def read(self) -> str | None:
        """The text, or None if the file is not UTF-8 text."""
        data = self.path.read_bytes()
        if b"\0" in data:
            return None
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            return None


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


def find_documents(paths: Sequence[str | os.PathLike[str]], glob: str = "*") -> list[Document]:
    """All files under `paths`, in an order that depends on their names alone.

    Hidden files and `__pycache__` are left out. No paths: the sources of the Python standard
    library that runs this program, without its tests, tables and installed packages.

    Raises:
        ArgumentError: a path does not exist, or nothing was found.
    """
    if not paths:
        root = Path(sysconfig.get_path("stdlib"))
        return _below(root, root, "*.py", STDLIB_SKIPPED)
    found: dict[Path, Document] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise ArgumentError(f"paths: {str(given)!r} does not exist")
        if given.is_dir():
            documents = _below(given, given, glob, frozenset())
        else:
            documents = [Document(given.name, given)]
        found |= {document.path.resolve(): document for document in documents}
    if not found:
        names = ", ".join(str(path) for path in paths)
        raise ArgumentError(f"paths: no file matches {glob!r} in {names}")
    return sorted(found.values(), key=lambda document: (document.name, str(document.path)))


def _below(root: Path, folder: Path, glob: str, skipped: frozenset[str]) -> list[Document]:
    documents = []
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name.startswith(".") or entry.name == "__pycache__" or entry.name in skipped:
            continue
        if entry.is_dir() and not entry.is_symlink():
            documents += _below(root, entry, glob, skipped)
        elif entry.is_file() and fnmatch.fnmatch(entry.name, glob):
            documents.append(Document(entry.relative_to(root).as_posix(), entry))
    return documents


def read_texts(documents: Sequence[Document]) -> list[tuple[str, str]]:
    """(name, text) of every document that is UTF-8 text and not empty.

    Raises:
        ArgumentError: none is.
    """
    texts = []
    for document in documents:
        text = document.read()
        if text and not text.isspace():
            texts.append((document.name, text))
    if not texts:
        raise ArgumentError(
            f"paths: none of the {len(documents)} files found is UTF-8 text, "
            f"{documents[0].path} for one"
        )
    return texts


def split_texts(
    texts: Sequence[tuple[str, str]], val_fraction: float
) -> tuple[list[str], list[str]]:
    """Texts to train on and texts held out.

    Documents are held out by a hash of their name, so that a document's side does not depend on
    the others. Where that would leave a side empty (few documents), the end of the text is held
    out, from the beginning of a line.
    """
    if not val_fraction:
        return [text for _, text in texts], []
    sides: tuple[list[str], list[str]] = ([], [])
    for name, text in texts:
        sides[zlib.crc32(name.encode()) % 10_000 < val_fraction * 10_000].append(text)
    if all(sides):
        return sides
    whole = "\n".join(text for _, text in texts)
    cut = whole.rfind("\n", 0, int(len(whole) * (1 - val_fraction))) + 1
    cut = cut or int(len(whole) * (1 - val_fraction))
    return [whole[:cut]], [whole[cut:]]


def prepare(
    config: TrainConfig,
    folder: Path,
    note: Callable[[str], None] = lambda message: None,
    *,
    reuse: bool = False,
) -> Corpus:
    """Read, tokenise and map the text of `config`; a second call finds its work in `folder`.

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
        source = ", ".join(config.paths) if config.paths else "the Python standard library"
        texts = read_texts(find_documents(config.paths, config.glob))
        fingerprint = _fingerprint(config, texts)
        if record is None or record["fingerprint"] != fingerprint:
            characters = sum(len(text) for _, text in texts)
            note(f"read {len(texts)} files, {characters / 1e6:.2f} M characters, from {source}")
            record = {
                "source": source,
                "documents": len(texts),
                "characters": characters,
                "fingerprint": fingerprint,
            }
            record |= _tokenise(config, folder, texts, note)
            write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    train, val = (TokenFile(folder / name).array for name in ("train.bin", "val.bin"))
    if len(train) <= config.block_size:
        raise ArgumentError(
            f"paths: {len(train)} tokens to train on are too few for one sequence of "
            f"block_size={config.block_size}; give more text or a smaller --block-size"
        )
    return Corpus(Tokenizer.from_folder(folder), train, val, **record)


def _fingerprint(config: TrainConfig, texts: Sequence[tuple[str, str]]) -> str:
    """A hash of the text and the settings that decide its tokens."""
    settings = (config.tokenizer, config.vocab_size, config.val_fraction)
    digest = hashlib.sha256(repr(settings).encode())
    for name, text in texts:
        digest.update(f"{name}\0{len(text)}\0".encode())
        digest.update(text.encode())
    return digest.hexdigest()


def _record(folder: Path) -> dict[str, Any] | None:
    """What corpus.json says; it is written last, so the files that it speaks of are whole."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _tokenise(
    config: TrainConfig,
    folder: Path,
    texts: Sequence[tuple[str, str]],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Write the token files and the tokenizer; return the sizes for the record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    train_texts, val_texts = split_texts(texts, config.val_fraction)
    tokenizer = _tokenizer(config, train_texts, note)
    tokenizer.save(folder)
    note(f"encoding with {tokenizer.vocab_size} tokens")
    counts = [
        len(encode_corpus(part, tokenizer, folder / name))
        for part, name in ((train_texts, "train.bin"), (val_texts, "val.bin"))
    ]
    val_bytes = sum(len(text.encode()) for text in val_texts)
    return {"val_bytes_per_token": val_bytes / counts[1] if counts[1] else 0.0}


def _tokenizer(config: TrainConfig, texts: Sequence[str], note: Callable[[str], None]) -> Tokenizer:
    """The tokenizer of the config: trained on `texts` (not on those held out), bytes, or read."""
    if config.tokenizer == "bytes":
        return byte_level()
    if config.tokenizer == "bpe":
        note(f"learning a vocabulary of {config.vocab_size} tokens")
        return train_bpe(texts, config.vocab_size)
    tokenizer = Tokenizer.from_folder(config.tokenizer)
    if tokenizer.eos_id is None:
        raise ArgumentError(
            f"tokenizer: the one in {config.tokenizer!r} has no end-of-text token, which separates "
            "the documents; add an eos_token to its tokenizer_config.json"
        )
    return tokenizer
