"""Checkpoints of a training run, always complete; the last few and the best are kept.

    folder/step-00000100/checkpoint.json   step, metrics, files with sizes and checksums, and all
                                           of the state but the tensors
                         model.safetensors     one file for each entry of the state with tensors
                         optimizer.safetensors

A checkpoint gets its name only when all of it is on disk, and older ones are deleted only after
that. So if the process is killed at any moment, or the disk is full, the last complete one is still
there. Loading compares the SHA-256 of every file with the recorded one, as a disk may return wrong
data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from gradient.errors import (
    ArgumentError,
    CheckpointError,
    FileFormatError,
    ModelNotFound,
    TypeMismatch,
)
from gradient.io import atomic
from gradient.io.json_file import read_json
from gradient.io.regular_file import open_regular
from gradient.io.safetensors import SafetensorsFile, save_file
from gradient.io.structure import Encoder, decode
from gradient.tensor import Tensor

__all__ = [
    "TrainingCheckpoint",
    "find_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "load_latest",
    "rename_damaged",
    "save_checkpoint",
]

MANIFEST = "checkpoint.json"
FORMAT = "gradient-checkpoint"
#: Version 1 had no checksums.
VERSION = 2

#: step-00000100, or step-00000100-2 where that step was saved again (a folder is never
#: overwritten).
_NAME = re.compile(r"step-(\d+)(?:-(\d+))?")
#: Entries of the state whose name may be a file's name; tensors of others share one file.
_FILE_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARED_FILE = "state.safetensors"


class UnknownVersion(CheckpointError):
    """A checkpoint of a later version: it is not damaged, and must not be skipped."""


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A complete checkpoint on the disk."""

    path: Path
    step: int
    is_best: bool = False  # it was the best when it was saved; the newest such one is the best
    metrics: dict[str, Any] = field(default_factory=dict)

    def load(self) -> dict[str, Any]:
        """Return the state that was given to `save_checkpoint`.

        Every file is read once, to verify its checksum. Tensors are views of the mapped files; they
        stay valid if the checkpoint is deleted.

        Raises:
            CheckpointError: a file in it is damaged; the message says which.
        """
        return _load_state(self.path)


def save_checkpoint(
    folder: str | os.PathLike[str],
    step: int,
    state: Mapping[str, Any],
    *,
    keep_last: int | None = None,
    is_best: bool = False,
    metrics: Mapping[str, Any] | None = None,
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Write `state` as the checkpoint of `step`, then delete those that need not be kept.

        save_checkpoint("run", step, {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(), "generator": generator.get_state(),
            "data": loader.state_dict(),
        }, keep_last=2, is_best=loss < best)

    Args:
        folder: the folder of the run's checkpoints; it is made if it does not exist. Only one
            process may write to it at a time.
        state: a dict of anything that `gradient.save` takes. An entry with tensors gets its own
            safetensors file, with the entry's name.
        keep_last: the number of newest checkpoints to keep, including this one; the best one is
            kept in addition. None: keep all.
        is_best: mark this checkpoint as the best one.
        metrics: JSON values to store with it, such as the validation loss; a tensor with one
            element is stored as a number.
        extra: a function that is called with the unfinished folder, to write more files (a config,
            a tokenizer). They must not have the name of an entry of `state`.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: the disk is full or failing. No older checkpoint is lost.
        TypeMismatch: `state` or `metrics` hold something that cannot be saved; the message says
            where.
    """
    if isinstance(step, bool) or not isinstance(step, Integral) or step < 0:
        raise ArgumentError(f"save_checkpoint: step must be an integer >= 0, got {step!r}")
    if keep_last is not None and keep_last < 1:
        raise ArgumentError(f"save_checkpoint: keep_last must be at least 1, got {keep_last}")
    folder = Path(folder)
    remembered = _metrics(metrics or {})
    files, structure = _split(state)
    if folder.is_dir():
        atomic.remove_unfinished(folder)
        size = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
        atomic.check_free_space(folder, size)
    path = _free_name(folder, int(step))
    with atomic.atomic_folder(path) as unfinished:
        if extra is not None:
            extra(unfinished)
        for name, tensors in files.items():
            save_file(tensors, unfinished / name, {"format": "pt"})
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "step": int(step),
            "is_best": bool(is_best),
            "metrics": remembered,
            "files": {
                file.name: file.stat().st_size
                for file in sorted(unfinished.iterdir())
                if file.is_file()
            },
            "state": structure,
        }
        checksums = {name: _sha256_of_file(unfinished / name) for name in manifest["files"]}
        manifest["sha256"] = checksums
        checksums[MANIFEST] = _sha256_of_manifest(manifest)
        atomic.write_text(unfinished / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    if keep_last is not None:
        _delete_old(folder, keep_last, path)
    return path


def load_checkpoint(folder: str | os.PathLike[str], which: str | int = "latest") -> dict[str, Any]:
    """Return the state of a run's latest checkpoint, its best, or that of a step.

    Args:
        folder: the run's checkpoints, or one checkpoint.
        which: "latest", "best" or a step.

    Raises:
        CheckpointError: there is none, or a file in it is damaged.
    """
    return find_checkpoint(folder, which).load()


def find_checkpoint(
    folder: str | os.PathLike[str], which: str | int = "latest"
) -> TrainingCheckpoint:
    """The latest checkpoint, the best, or that of a step; unfinished ones do not count.

    Args:
        folder: the run's checkpoints, or one checkpoint (then `which` is not looked at).

    Raises:
        CheckpointError: there is none; the message says what was found instead.
    """
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        return _read(folder)
    found = list_checkpoints(folder)
    if which == "best":
        chosen = [checkpoint for checkpoint in found if checkpoint.is_best]
    elif which == "latest":
        chosen = found
    elif isinstance(which, int):
        chosen = [checkpoint for checkpoint in found if checkpoint.step == which]
    else:
        raise ArgumentError(f"which: expected 'latest', 'best' or a step, got {which!r}")
    if chosen:
        return chosen[-1]
    steps = ", ".join(str(checkpoint.step) for checkpoint in found)
    wanted = f"a checkpoint of step {which}" if isinstance(which, int) else f"a {which} checkpoint"
    there = f"the whole ones are of steps {steps}" if steps else "no whole checkpoint is there"
    raise CheckpointError(f"{folder}: {wanted} was asked for; {there}")


def list_checkpoints(folder: str | os.PathLike[str]) -> list[TrainingCheckpoint]:
    """All complete checkpoints in `folder`, oldest first; [] if the folder does not exist."""
    return _listed(Path(folder))[0]


def load_latest(
    folder: str | os.PathLike[str],
) -> tuple[TrainingCheckpoint, dict[str, Any], list[tuple[Path, CheckpointError]]]:
    """Return the newest undamaged checkpoint, its state, and the damaged ones: (folder, reason).

    Raises:
        CheckpointError: all are damaged (the message has the reason for each), or one was written
            by a later version of gradient.
    """
    whole, damaged = _listed(Path(folder))
    for _, error in damaged:
        if isinstance(error, UnknownVersion):
            raise error
    for checkpoint in reversed(whole):
        try:
            return checkpoint, checkpoint.load(), damaged
        except CheckpointError as error:
            damaged.append((checkpoint.path, error))
    reasons = "; ".join(str(error) for _, error in damaged) or "there is none"
    raise CheckpointError(f"{folder}: no checkpoint can be loaded: {reasons}")


def rename_damaged(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no longer listed but can still be examined."""
    number = 1
    while (target := checkpoint.with_name(f"damaged-{number}-{checkpoint.name}")).exists():
        number += 1
    os.rename(checkpoint, target)
    return target


def _listed(folder: Path) -> tuple[list[TrainingCheckpoint], list[tuple[Path, CheckpointError]]]:
    """Checkpoints that seem complete, and the others with the reason; files are not read."""
    whole, damaged = [], []
    for path in _named(folder):
        try:
            whole.append(_read(path))
        except CheckpointError as error:
            damaged.append((path, error))
    return whole, damaged


def _named(folder: Path) -> list[Path]:
    """Folders with a checkpoint's name, in the order of step and attempt."""
    if not folder.is_dir():
        return []
    named = [
        (int(match[1]), int(match[2] or 1), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return [path for _, _, path in sorted(named)]


def _free_name(folder: Path, step: int) -> Path:
    attempts = [
        int(match[2] or 1)
        for path in _named(folder)
        if (match := _NAME.fullmatch(path.name)) and int(match[1]) == step
    ]
    name = f"step-{step:08d}"
    return folder / (f"{name}-{max(attempts) + 1}" if attempts else name)


def _delete_old(folder: Path, keep_last: int, saved: Path) -> None:
    """Delete all but the last few and the best. Damaged ones are kept for the user.

    The one just saved is kept too: after a run has gone back, older ones have higher steps.
    """
    whole = list_checkpoints(folder)
    best = [checkpoint for checkpoint in whole if checkpoint.is_best][-1:]
    kept = {saved, *(checkpoint.path for checkpoint in whole[-keep_last:] + best)}
    for checkpoint in whole:
        if checkpoint.path not in kept:
            atomic.remove_folder(checkpoint.path)


def _metrics(metrics: Mapping[str, Any]) -> Any:
    """The JSON form of the metrics, which may not contain tensors."""
    numbers = {
        name: value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        for name, value in metrics.items()
    }
    encoder = Encoder()
    form = encoder.encode(numbers, "metrics")
    if encoder.tensors:
        raise TypeMismatch(
            f"save_checkpoint: {', '.join(encoder.tensors)}: metrics are numbers and texts; "
            "tensors belong into the state"
        )
    return form


def _split(state: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The tensors of each file, and the JSON form of the rest with the files' names in it."""
    files: dict[str, dict[str, Any]] = {}
    structure: dict[str, Any] = {}
    shared = Encoder()
    for name, value in state.items():
        if not isinstance(name, str):
            raise ArgumentError(f"save_checkpoint: entries of the state have names, got {name!r}")
        own = isinstance(value, Mapping | list | tuple) and _FILE_STEM.fullmatch(name) is not None
        own = own and f"{name}.safetensors" != _SHARED_FILE
        encoder = Encoder() if own else shared
        before = len(encoder.tensors)
        structure[name] = {"value": encoder.encode(value, "" if own else name)}
        if own and not encoder.tensors:
            continue
        file_name = f"{name}.safetensors" if own else _SHARED_FILE
        structure[name]["file"] = file_name
        if len(encoder.tensors) > before:
            files[file_name] = encoder.tensors
    return files, structure


def _read(path: Path) -> TrainingCheckpoint:
    manifest = _manifest(path)
    try:
        metrics = decode(manifest.get("metrics", {}), {}, str(path / MANIFEST))
    except FileFormatError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return TrainingCheckpoint(path, manifest["step"], manifest.get("is_best") is True, metrics)


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, if all its files exist with the listed sizes."""
    try:
        manifest = read_json(path / MANIFEST)
    except (ModelNotFound, FileFormatError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path / MANIFEST} is not a checkpoint's manifest")
    if manifest.get("version") not in (1, VERSION):
        raise UnknownVersion(
            f"{path} has checkpoint version {manifest.get('version')!r}; this gradient reads "
            f"1 to {VERSION}: update gradient"
        )
    files, step = manifest.get("files"), manifest.get("step")
    if not isinstance(files, dict) or type(step) is not int or "state" not in manifest:
        raise CheckpointError(f"{path / MANIFEST} lacks its step, files or state")
    for name, size in files.items():
        file = path / name
        if file.parent != path or not file.is_file() or file.stat().st_size != size:
            raise CheckpointError(f"{path} is damaged: {name} is missing or not of {size} bytes")
    recorded = _recorded_checksums(manifest).get(MANIFEST)
    if manifest["version"] > 1 and recorded != _sha256_of_manifest(manifest):
        raise CheckpointError(f"{path} is damaged: {MANIFEST} has another checksum than was noted")
    return manifest


def _recorded_checksums(manifest: dict[str, Any]) -> dict[str, Any]:
    """The checksums in a manifest, by file."""
    checksums = manifest.get("sha256")
    return checksums if isinstance(checksums, dict) else {}


def _sha256_of_manifest(manifest: dict[str, Any]) -> str:
    """The checksum of a manifest without its own entry."""
    checksums = {
        name: each for name, each in _recorded_checksums(manifest).items() if name != MANIFEST
    }
    said = json.dumps(manifest | {"sha256": checksums}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _sha256_of_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, manifest: dict[str, Any]) -> None:
    """Raise unless every file has its recorded checksum."""
    checksums = _recorded_checksums(manifest)
    for name in manifest["files"]:
        if manifest["version"] > 1 and _sha256_of_file(path / name) != checksums.get(name):
            raise CheckpointError(f"{path} is damaged: {name} has another checksum than was noted")


def _load_state(path: Path) -> dict[str, Any]:
    try:
        manifest = _manifest(path)
        _verify(path, manifest)
    except CheckpointError:
        raise
    except OSError as error:  # a failing disk, or no permission
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    opened: dict[str, Mapping[str, Tensor]] = {}
    state = {}
    try:
        for name, entry in manifest["state"].items():
            file_name = entry.get("file", MANIFEST)
            if file_name not in opened:
                has_tensors = file_name in manifest["files"]
                opened[file_name] = SafetensorsFile(path / file_name) if has_tensors else {}
            state[name] = decode(entry["value"], opened[file_name], str(path / file_name))
    except (FileFormatError, ModelNotFound, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return state
