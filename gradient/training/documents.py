"""The text of a run: the documents in its files, split into training and validation.

A file is one document; or several, with `<|endoftext|>` between them. In a .jsonl file each line is
one: a text, `{"text": "..."}`, or a conversation as Hugging Face and OpenAI write it,
`{"messages": [{"role": "user", "content": "..."}, ...]}`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import sysconfig
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradient.errors import ArgumentError
from gradient.io.regular_file import check_regular, read_regular
from gradient.text.added_tokens import END_OF_TEXT
from gradient.text.messages import check_messages

#: Folders of the standard library that would teach a small model little: tests, tables, prose.
STDLIB_SKIPPED = frozenset(
    ("test", "tests", "site-packages", "idlelib", "turtledemo", "encodings", "pydoc_data")
)


@dataclass(frozen=True)
class File:
    """A file, and its name for ordering (relative, with forward slashes)."""

    name: str
    path: Path

    def read(self) -> str | None:
        """The text, with line ends as `\\n`; None if the file is empty or not UTF-8 text."""
        data = read_regular(self.path)
        if b"\0" in data:
            return None
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            return None
        return None if not text or text.isspace() else text


@dataclass(frozen=True)
class Chat:
    """A conversation, as a line of a .jsonl file holds it."""

    messages: list[dict[str, Any]]
    tools: list[Any] | None = None

    @property
    def contents(self) -> list[str]:
        """The text of all messages, without roles."""
        return [each["content"] for each in self.messages if isinstance(each.get("content"), str)]


@dataclass(frozen=True, slots=True)
class Document:
    """Characters `start` to `stop` of a text file; read on demand, never kept."""

    file: File
    start: int
    stop: int
    key: int = field(compare=False)  # a hash that decides whether it is held out
    is_line: bool = False  # of a .jsonl file, and not the text itself
    is_chat: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> str | Chat:
        """The text or the conversation."""
        return self.of(self.file.read() or "")

    def of(self, text: str) -> str | Chat:
        """Like `read`, given the file's text."""
        part = text[self.start : self.stop]
        return _line(part, self.file.name) if self.is_line else part


def read_in_turn(documents: Iterable[Document]) -> Iterator[str | Chat]:
    """The contents of documents in order; consecutive documents of one file share one read."""
    file, text = None, ""
    for document in documents:
        if document.file is not file:
            file, text = document.file, document.file.read() or ""
        yield document.of(text)


def find_files(
    paths: Sequence[str | os.PathLike[str]],
    glob: str = "*",
    without: str | os.PathLike[str] | None = None,
) -> list[File]:
    """All files under `paths`, in an order that depends only on their names.

    Hidden files and `__pycache__` are left out. No paths: the sources of the Python standard
    library that runs this program, without its tests, tables and installed packages.

    Args:
        glob: names of the files to take from folders.
        without: a folder that is left out, such as the run's own.

    Raises:
        ArgumentError: a path does not exist, or nothing was found.
        FileFormatError: a path is a named pipe or a device.
    """
    if not paths:
        root = Path(sysconfig.get_path("stdlib"))
        return _below(root, root, "*.py", STDLIB_SKIPPED)
    found: dict[Path, File] = {}
    own = None if without is None else Path(without).resolve()
    for given in map(Path, paths):
        if not given.exists():
            raise ArgumentError(f"paths: {str(given)!r} does not exist")
        if given.is_dir():
            files = _below(given, given, glob, frozenset())
            files = [file for file in files if own not in file.path.resolve().parents]
        else:
            check_regular(given)
            files = [File(given.name, given)]
        found |= {file.path.resolve(): file for file in files}
    if not found:
        names = ", ".join(str(path) for path in paths)
        raise ArgumentError(f"paths: no file matches {glob!r} in {names}")
    return sorted(found.values(), key=lambda file: (file.name, str(file.path)))


def _below(root: Path, folder: Path, glob: str, skipped: frozenset[str]) -> list[File]:
    files = []
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name.startswith(".") or entry.name == "__pycache__" or entry.name in skipped:
            continue
        if entry.is_dir() and not entry.is_symlink():
            files += _below(root, entry, glob, skipped)
        elif entry.is_file() and fnmatch.fnmatch(entry.name, glob):
            files.append(File(entry.relative_to(root).as_posix(), entry))
    return files


def read_all(files: Iterable[File]) -> tuple[list[Document], str]:
    """The documents in files of text, and a hash of all names and texts; one file in memory a time.

    Raises:
        ArgumentError: none is text, or a line of a .jsonl file is neither a text nor a conversation
            (the message says which line).
    """
    documents, others = [], []
    digest = hashlib.sha256()
    for file in files:
        text = file.read()
        if text is None:
            others.append(str(file.path))
            continue
        documents += _documents(file, text)
        digest.update(_name_bytes(file) + f"\0{len(text)}\0".encode())
        digest.update(text.encode())
    if not documents:
        more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
        raise ArgumentError(
            f"paths: no text found: {others[0]}{more} empty or not UTF-8"
            if others
            else "paths: the files found hold no document"
        )
    return documents, digest.hexdigest()


def _name_bytes(file: File) -> bytes:
    """UTF-8, or the bytes as they are on the disk where those are of another encoding."""
    return file.name.encode("utf-8", "surrogateescape")


def _documents(file: File, text: str) -> list[Document]:
    if file.path.suffix == ".jsonl":
        return _lines(file, text)
    if END_OF_TEXT not in text:
        return [Document(file, 0, len(text), zlib.crc32(_name_bytes(file)))]
    found = []
    start = 0
    while start < len(text):
        stop = text.find(END_OF_TEXT, start)
        stop = len(text) if stop < 0 else stop
        # The line break after a mark, and the one before it, belong to the mark.
        begin = start + (start > 0 and text.startswith("\n", start))
        end = stop - (stop < len(text) and text[begin:stop].endswith("\n"))
        if not (part := text[begin:end]).isspace() and part:
            found.append(Document(file, begin, end, zlib.crc32(part.encode())))
        start = stop + len(END_OF_TEXT)
    return found


def _lines(file: File, text: str) -> list[Document]:
    found = []
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        if line and not line.isspace():
            is_chat = isinstance(_line(line, f"{file.path}, line {number}"), Chat)
            key = zlib.crc32(line.encode())
            found.append(Document(file, start, start + len(line), key, True, is_chat))
        start += len(line) + 1
    return found


def _line(line: str, where: str) -> str | Chat:
    """A line of a .jsonl file.

    Raises:
        ArgumentError: it is neither a text nor a conversation.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{where}: not a JSON object: {error}") from None
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return value["text"]
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages:
        raise ArgumentError(
            f'{where}: expected {{"text": "..."}} or {{"messages": [{{"role": "user", "content": '
            f'"..."}}, ...]}}, got {line[:80]!r}'
        )
    check_messages(messages, f"{where}: messages")
    return Chat(messages, value.get("tools") or None)


def split(
    documents: Sequence[Document], val_fraction: float
) -> tuple[list[Document], list[Document]]:
    """Documents to train on, and documents held out.

    A hash decides: of the file's name, or of the document's text if the file has several. So the
    choice does not depend on other documents. If this would leave one side empty (few documents),
    the end of the text is held out, from the beginning of a line.
    """
    if not val_fraction:
        return list(documents), []
    sides: tuple[list[Document], list[Document]] = ([], [])
    for document in documents:
        sides[document.key / 2**32 < val_fraction].append(document)
    if all(sides):
        return sides
    return _split_end(documents, int(sum(map(len, documents)) * (1 - val_fraction)))


def _split_end(documents: Sequence[Document], kept: int) -> tuple[list[Document], list[Document]]:
    """Cut after about `kept` characters; the document at the cut is divided."""
    before: list[Document] = []
    after: list[Document] = []
    for document in documents:
        if kept >= len(document) or (document.is_line and not before):
            before.append(document)
        elif kept <= 0 or document.is_line:
            after.append(document)
        else:
            text = document.read()
            assert isinstance(text, str)
            cut = document.start + (text.rfind("\n", 0, kept) + 1 or kept)
            before.append(replace(document, stop=cut))
            after.append(replace(document, start=cut))
        kept -= len(document)
    return before, after
