"""From text files to two memory-mapped rows of tokens, one to train on and one held out."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradient.errors import ArgumentError
from gradient.training.config import TrainConfig

if TYPE_CHECKING:
    import numpy as np

    from gradient.text import Tokenizer

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

    source: str
    tokenizer: Tokenizer
    train: np.ndarray
    val: np.ndarray
    documents: int
    characters: int
    fingerprint: str


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
    config: TrainConfig, folder: Path, note: Callable[[str], None] = lambda message: None
) -> Corpus:
    """Read, tokenise and map the text of `config`; a second call finds its work in `folder`.

    Args:
        folder: receives train.bin, val.bin, the tokenizer and corpus.json.
        note: told what is being done, one sentence at a time.

    Raises:
        ArgumentError: no text, or too little for one sequence.
    """
    source = ", ".join(config.paths) if config.paths else "the Python standard library"
    texts = read_texts(find_documents(config.paths, config.glob))
    fingerprint = _fingerprint(config, texts)
    characters = sum(len(text) for _, text in texts)
    if _recorded(folder) != fingerprint:
        note(f"read {len(texts)} files, {characters / 1e6:.1f} M characters, from {source}")
        _build(config, folder, texts, fingerprint, note)
    tokenizer, train, val = _open(folder)
    if len(train) <= config.block_size:
        raise ArgumentError(
            f"paths: {len(train)} tokens to train on are too few for one sequence of "
            f"block_size={config.block_size}; give more text or a smaller --block-size"
        )
    return Corpus(source, tokenizer, train, val, len(texts), characters, fingerprint)
