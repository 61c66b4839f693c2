"""Which text a run reads: the files, and which of them are held out for validation."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import sysconfig
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradient.errors import ArgumentError

#: Folders of the standard library that would teach a small model little: tests, tables, prose.
STDLIB_SKIPPED = frozenset(
    ("test", "tests", "site-packages", "idlelib", "turtledemo", "encodings", "pydoc_data")
)


@dataclass(frozen=True)
class File:
    """A file, and the name that orders it (relative, with forward slashes)."""

    name: str
    path: Path

    def read(self) -> str | None:
        """The text, with line ends as `\\n`; None if the file is empty or not UTF-8 text."""
        data = self.path.read_bytes()
        if b"\0" in data:
            return None
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            return None
        return None if not text or text.isspace() else text


@dataclass(frozen=True)
class Document:
    """The characters from `start` to `stop` of a text file; read when asked for, never kept."""

    file: File
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> str:
        return (self.file.read() or "")[self.start : self.stop]


def find_files(
    paths: Sequence[str | os.PathLike[str]],
    glob: str = "*",
    without: str | os.PathLike[str] | None = None,
) -> list[File]:
    """All files under `paths`, in an order that depends on their names alone.

    Hidden files and `__pycache__` are left out. No paths: the sources of the Python standard
    library that runs this program, without its tests, tables and installed packages.

    Args:
        glob: names of the files to take from folders.
        without: a folder that is left out, such as the run's own, which may lie among the text.

    Raises:
        ArgumentError: a path does not exist, or nothing was found.
    """
    if not paths:
        root = Path(sysconfig.get_path("stdlib"))
        return _below(root, root, "*.py", STDLIB_SKIPPED)
    found: dict[Path, File] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise ArgumentError(f"paths: {str(given)!r} does not exist")
        if given.is_dir():
            files = _below(given, given, glob, frozenset())
        else:
            files = [File(given.name, given)]
        found |= {file.path.resolve(): file for file in files}
    if without is not None:
        own = Path(without).resolve()
        found = {path: file for path, file in found.items() if own not in path.parents}
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
    """The files that are text, and a hash of all their names and texts. One is in memory at a time.

    Raises:
        ArgumentError: none is text.
    """
    documents, others = [], []
    digest = hashlib.sha256()
    for file in files:
        text = file.read()
        if text is None:
            others.append(str(file.path))
            continue
        documents.append(Document(file, 0, len(text)))
        digest.update(f"{file.name}\0{len(text)}\0".encode())
        digest.update(text.encode())
    if not documents:
        raise ArgumentError(
            f"paths: none of the {len(others)} files found is UTF-8 text, {others[0]} for one"
        )
    return documents, digest.hexdigest()


def split(
    documents: Sequence[Document], val_fraction: float
) -> tuple[list[Document], list[Document]]:
    """Documents to train on, and documents held out.

    They are held out by a hash of their name, so that a document's side does not depend on the
    others. Where that would leave a side empty (few documents), the end of the text is held out,
    from the beginning of a line.
    """
    if not val_fraction:
        return list(documents), []
    sides: tuple[list[Document], list[Document]] = ([], [])
    for document in documents:
        chance = zlib.crc32(document.file.name.encode()) / 2**32
        sides[chance < val_fraction].append(document)
    if all(sides):
        return sides
    return _split_end(documents, int(sum(map(len, documents)) * (1 - val_fraction)))


def _split_end(documents: Sequence[Document], kept: int) -> tuple[list[Document], list[Document]]:
    """Cut after about `kept` characters: the document that holds the place is cut in two."""
    before, after = [], []
    for document in documents:
        if kept >= len(document):
            before.append(document)
        elif kept <= 0:
            after.append(document)
        else:
            cut = document.read().rfind("\n", 0, kept) + 1 or kept
            before.append(Document(document.file, 0, cut))
            after.append(Document(document.file, cut, document.stop))
        kept -= len(document)
    return before, after
