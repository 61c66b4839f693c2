"""Files and folders that appear whole or not at all.

The data goes to a hidden neighbour of the target, reaches the disk (fsync), and only then takes the
target's name by `os.replace`, which POSIX and Windows do in one step; last, the folder is fsynced,
so that the new name survives a power cut too. A process killed at any moment, or a full disk,
leaves the old file as it was, and beside it at most a stray neighbour.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gradient.errors import CheckpointError

__all__ = ["atomic_folder", "atomic_write"]

#: What a disk answers when it has no room, no permission or no health; all other errors raised
#: while a file is being written come from elsewhere, and pass through unchanged.
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
)
#: Part of the name of everything that is being written, or deleted.
UNFINISHED = ".unfinished-"


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, size: int | None = None) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; it gets its new content when the block ends without error.

        with atomic_write("model.safetensors") as file:
            file.write(data)

    A symbolic link stays a link: the file that it points to is replaced. An existing file's
    permissions are kept.

    Args:
        size: bytes that will be written, where known: a disk without room is then refused before
            the first byte.

    Raises:
        CheckpointError: the disk is full, read-only or failing. The old file is untouched.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name[:200]}{UNFINISHED}{secrets.token_hex(4)}")
    try:
        if size is not None:
            check_free_space(target.parent, size)
        descriptor = os.open(str(beside), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            with suppress(FileNotFoundError):
                os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
            _sync_file(file.fileno())
        os.replace(beside, target)
        sync_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and not isinstance(error, CheckpointError):
            raise _explained(error, target, beside) from error
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path` by `data`, atomically."""
    with atomic_write(path, size=len(data)) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file at `path` by `text` in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to be filled, which takes the name `path` when the block ends without error.

    Every file in it reaches the disk before the name does. `path` must not exist: a folder, unlike
    a file, can not be replaced in one step.

    Raises:
        CheckpointError: `path` exists, or the disk is full, read-only or failing.
    """
    target = Path(path)
    if target.exists():
        raise CheckpointError(f"{target} already exists; a finished folder is never overwritten")
    beside = target.with_name(f".{target.name}{UNFINISHED}{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        yield beside
        _sync_tree(beside)
        os.rename(beside, target)
        sync_folder(target.parent)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, CheckpointError):
            raise _explained(error, target, beside) from error
        raise


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Delete a folder; killed on the way, it leaves no half-empty folder under the good name."""
    target = Path(path)
    doomed = target.with_name(f".{target.name}{UNFINISHED}{secrets.token_hex(4)}")
    try:
        os.rename(target, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Delete what killed writers left in `folder`. Only for a folder with a single writer."""
    for entry in Path(folder).glob(f".*{UNFINISHED}*"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()


def check_free_space(folder: str | os.PathLike[str], size: int) -> None:
    """Refuse at once a file of `size` bytes for which the disk under `folder` has no room.

    Raises:
        CheckpointError: with both figures. (Quotas and other writers can still fill the disk
            later.)
    """
    try:
        free = shutil.disk_usage(folder).free
    except (
        OSError
    ):  # no such folder, or a file system that does not say: the write itself will tell
        return
    if size > free:
        error = OSError(
            errno.ENOSPC,
            f"{size:,} bytes are needed and {free:,} are free; free some space, or write elsewhere",
        )
        raise _explained(error, Path(folder), None) from error


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in `folder` survive a power cut (where the system can; Windows can not)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            # Opened for reading: enough to fsync on POSIX, while Windows asks for writing.
            descriptor = os.open(os.path.join(root, name), os.O_RDWR | _BINARY)
            try:
                _sync_file(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(root)


def _sync_file(descriptor: int) -> None:
    """Wait until the file is on the disk."""
    os.fsync(descriptor)
    if sys.platform == "darwin":
        # There fsync stops at the drive's own cache; a file system without this answers an error.
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


def _explained(error: OSError, target: Path, beside: Path | None) -> OSError:
    """The error to raise for `error`: ours if the disk refused, else the very same."""
    if error.errno not in _DISK_ERRORS and error.filename != str(beside):
        return error
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT and not target.parent.exists():
        reason = f"there is no folder {target.parent}; make it, as with os.makedirs, and try again"
    ours = CheckpointError(
        f"could not write {target}: {reason}. What was there before is unchanged."
    )
    ours.errno = error.errno
    return ours
