"""Opening regular files only: reading a pipe or device may block for ever.

A stream of bytes, such as `io.BytesIO`, is accepted as well: the rest of it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from typing import IO, Any

from gradient.errors import FileFormatError, ModelNotFound, TypeMismatch
from gradient.io.signatures import SIGNATURE_BYTES, format_of

#: A file by its path, or a stream of bytes.
Source = str | os.PathLike[str] | IO[bytes]

_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise unless this is a regular file or a folder, for which opening gives a good error.

    Raises:
        FileFormatError: it is a named pipe, a socket or a device.
        OSError: it does not exist, or is not accessible.
    """
    mode = os.stat(path).st_mode
    for holds, kind in _KINDS:
        if holds(mode):
            raise FileFormatError(
                f"{path} is {kind}; expected a file, as its content is mapped or read more than "
                "once: copy it into a file first"
            )


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read its bytes.

    Raises:
        FileFormatError: see `check_regular`.
        OSError: it cannot be opened.
    """
    check_regular(path)
    return open(path, "rb")


@contextmanager
def opened(source: Source) -> Iterator[IO[bytes]]:
    """Open a file for a `with` block, or the rest of a stream as a `BytesIO`.

    Raises:
        TypeMismatch: it is neither, or a stream of text.
        FileFormatError, OSError: as in `open_regular`.
    """
    if isinstance(source, str | os.PathLike):
        with open_regular(source) as file:
            yield file
    else:
        yield BytesIO(_rest(source))


def _rest(stream: Any) -> bytes:
    content = stream.read() if hasattr(stream, "read") else None
    if not isinstance(content, bytes):
        got = type(stream).__name__ if content is None else "one of text; open it with mode 'rb'"
        raise TypeMismatch(f"expected a path or a stream of bytes, got {got}")
    if not content:
        raise FileFormatError(
            f"{name_of(stream)} has no bytes left: a stream is read from where it stands, seek(0) "
            "goes to its beginning"
        )
    return content


def name_of(source: Source) -> str:
    """Return the path of a file, a stream's own name, or its type."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else f"<{type(source).__name__}>"


def not_found(path: str, error: OSError) -> ModelNotFound:
    """Return the error for a missing file; for a folder it names the function that reads one."""
    if isinstance(error, IsADirectoryError):
        return ModelNotFound(
            f"{path} is a folder, expected a file; gradient.hub.load reads a model's folder, "
            "gradient.io.open_sharded one of weights"
        )
    return ModelNotFound(f"no file at {path}: {error.strerror}")


def size_of(file: IO[bytes]) -> int:
    """Return the size of an open file in bytes; its position is then 0."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def file_format(source: Source) -> str | None:
    """Return the name of a file's binary format ("gguf", "zip"); None if it is unknown or missing.

    A stream's position does not change.
    """
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            return None
        with open_regular(source) as file:
            return format_of(file.read(SIGNATURE_BYTES))
    if not hasattr(source, "seek"):
        return None
    start = source.tell()
    beginning = source.read(SIGNATURE_BYTES)
    source.seek(start)
    return format_of(beginning) if isinstance(beginning, bytes) else None


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The content of a file; errors as in `open_regular`."""
    with open_regular(path) as file:
        return file.read()
