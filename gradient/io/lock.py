"""A lock on a folder with one writing process; it ends with the process, however that ends."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import IO, Any

from gradient.errors import CheckpointError

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

LOCK = ".lock"


class FolderLock:
    """A context in which no other one, in this or another process, locks the same folder.

    The system holds the lock (flock) on a small file in the folder and lets go when the process
    ends, by kill -9 too: the file says who has it, and a file that is left behind locks nothing.
    Where the system or file system has no such locks, the context does nothing.

    Args:
        folder: exists.
        what: what is done there, for the error: "this run".

    Raises:
        CheckpointError: another one holds it; the message says which process.
    """

    def __init__(self, folder: str | os.PathLike[str], what: str) -> None:
        self.path = Path(folder) / LOCK
        self.what = what
        self._file: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        if fcntl is None:
            return self
        try:
            # "a" does not empty a file that another process may hold.
            file = self.path.open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise CheckpointError(f"cannot write to {self.path.parent}: {error}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            file.close()
            raise CheckpointError(
                f"{self.path.parent} is in use: {holder} is working on {self.what}. Wait until it "
                "has ended, or stop it"
            ) from None
        except OSError:  # a file system without locks
            file.close()
            return self
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
