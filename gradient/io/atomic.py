"""Files and folders that are written completely or not at all.

The data is written to a hidden file beside the target, synced to the disk (fsync), and only then
renamed to the target by `os.replace`, which POSIX and Windows do in one step. Last, the folder is
synced, so that the new name survives a power cut. If the process is killed at any moment, or the
disk is full, the old file is unchanged, with at most a stray hidden file beside it.
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

#: Errors of a full, read-only or failing disk. All other errors while a file is written have other
#: causes, and are raised unchanged.
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
)
#: Part of the names of all files and folders that are being written or deleted.
UNFINISHED = ".unfinished-"


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, size: int | None = None) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; it gets the new content if the block ends without an error.

        with atomic_write("model.safetensors") as file:
            file.write(data)

    A symbolic link stays a link: its target is replaced. An existing file's
    permissions are kept.

    Args:
        size: the number of bytes to write, if known: without enough free space, the error is raised
            before the first byte.

    Raises:
        CheckpointError: the disk is full, read-only or failing. The old file is unchanged.
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
    """Yield a new folder to fill, which is renamed to `path` if the block ends without an error.

    Every file in it is synced to the disk before the rename. `path` must not exist: a folder,
    unlike a file, cannot be replaced in one step.

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
    """Delete a folder; if the process is killed, no incomplete folder keeps the name."""
    target = Path(path)
    doomed = target.with_name(f".{target.name}{UNFINISHED}{secrets.token_hex(4)}")
    try:
        os.rename(target, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Delete what killed writers left in `folder`, which must have only one writer."""
    for entry in Path(folder).glob(f".*{UNFINISHED}*"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()


def check_free_space(folder: str | os.PathLike[str], size: int) -> None:
    """Raise an error if the disk of `folder` has no room for a file of `size` bytes.

    Raises:
        CheckpointError: with both figures. (Quotas and other writers can still fill the disk
            later.)
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # no folder, or the file system does not report it: the write itself will fail
        return
    if size > free:
        error = OSError(
            errno.ENOSPC,
            f"{size:,} bytes are needed and {free:,} are free; free some space, or write elsewhere",
        )
        raise _explained(error, Path(folder), None) from error


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in `folder` survive a power cut (not possible on Windows)."""
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
            # For fsync, POSIX needs only reading, Windows writing.
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
        # On macOS, fsync stops at the drive's cache; file systems without F_FULLFSYNC raise.
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


def _explained(error: OSError, target: Path, beside: Path | None) -> OSError:
    """The error to raise for `error`: ours if the disk failed, else the same one."""
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
