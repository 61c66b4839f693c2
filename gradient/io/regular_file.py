"""Opening files to read, and nothing but files: a pipe or device may hang its reader for ever."""

from __future__ import annotations

import os
import stat
from io import BufferedReader

from gradient.errors import FileFormatError

_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file. A folder passes: opening it says what it is.

    Raises:
        FileFormatError: it is a named pipe, a socket or a device.
        OSError: there is nothing, or it cannot be looked at.
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


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The content of a file; errors as of `open_regular`."""
    with open_regular(path) as file:
        return file.read()
