"""Weights in one file or in many: `model.safetensors`, or shards and their index.

The index, `model.safetensors.index.json`, is Hugging Face's: `{"metadata": {"total_size": bytes},
"weight_map": {tensor name: shard file}}`. PyTorch's `pytorch_model.bin` has the same kind of index.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gradient.errors import ArgumentError, FileFormatError, ModelNotFound
from gradient.io import atomic
from gradient.io.json_file import read_json
from gradient.io.packed import split_packed
from gradient.io.safetensors import SafetensorsFile, save_file
from gradient.io.tensor_file import TensorFile
from gradient.io.torch_file import TorchFile
from gradient.tensor import Tensor

__all__ = ["ShardedFiles", "open_sharded", "save_sharded"]

File = TypeVar("File", bound=TensorFile)


class ShardedFiles(TensorFile):
    """The tensors of several files as one mapping; each is made at access.

    Attributes:
        files: the open file by shard name.
    """

    def __init__(
        self,
        folder: Path,
        weight_map: dict[str, str],
        open_file: Callable[[Path], TensorFile] = SafetensorsFile,
    ):
        self.path = str(folder)
        names = sorted(set(weight_map.values()))
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise ModelNotFound(
                f"{folder}: {len(absent)} of {len(names)} shards are missing: {', '.join(absent)}. "
                "Was the download interrupted?"
            )
        self.files = {name: open_file(folder / name) for name in names}
        # The index has the stored names: for a packed tensor, those of its parts.
        self.names: dict[str, str] = {}
        for stored, name in weight_map.items():
            self.names[_whole(self.files[name], stored)] = name
        lost = [t for t, name in self.names.items() if t not in self.files[name]]
        if lost:
            raise FileFormatError(
                f"{folder}: the index names {len(lost)} tensors that its shards do not hold: "
                + ", ".join(f"{tensor} (in {self.names[tensor]})" for tensor in lost[:5])
                + (", ..." if len(lost) > 5 else "")
            )

    @property
    def metadata(self) -> dict[str, str]:
        """The header strings of all safetensors shards, merged."""
        headers = [f.metadata for f in self.files.values() if isinstance(f, SafetensorsFile)]
        return {key: value for header in headers for key, value in header.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.files[self.names[name]][name]

    @property
    def nbytes(self) -> int:
        return sum(file.nbytes for file in self.files.values())

    def release(self, name: str) -> None:
        self.files[self.names[name]].release(name)

    def __repr__(self) -> str:
        return f"ShardedFiles({self.path!r}, {len(self)} tensors, {len(self.files)} files)"


def open_sharded(
    folder: str | os.PathLike[str], stem: str = "model"
) -> SafetensorsFile | ShardedFiles:
    """The weights in `folder`, from `<stem>.safetensors` or by `<stem>.safetensors.index.json`.

    Only headers are read; tensors are views of the mapped files, made when asked for.

    Raises:
        ModelNotFound: neither file is there, or a shard is missing (all missing ones are listed).
        FileFormatError: the index or a shard is damaged, or the index points out of the folder.
    """
    return _open(Path(folder), f"{stem}.safetensors", SafetensorsFile)


def open_sharded_torch(folder: str | os.PathLike[str]) -> TorchFile | ShardedFiles:
    """Like `open_sharded`, for `pytorch_model.bin` or its shards."""
    return _open(Path(folder), "pytorch_model.bin", TorchFile)


def _open(folder: Path, name: str, open_file: Callable[[Path], File]) -> File | ShardedFiles:
    single, index = folder / name, folder / f"{name}.index.json"
    if single.exists():
        return open_file(single)
    if index.exists():
        return ShardedFiles(folder, read_index(index), open_file)
    if not folder.is_dir():
        raise ModelNotFound(f"{folder}: there is no such folder")
    held = sorted(entry.name for entry in folder.iterdir())
    raise ModelNotFound(
        f"{folder}: no weights; looked for {single.name} and {index.name}, "
        f"found {', '.join(held[:12]) or 'an empty folder'}{', ...' if len(held) > 12 else ''}"
    )


def save_sharded(
    tensors: Mapping[str, Tensor],
    folder: str | os.PathLike[str],
    stem: str = "model",
    max_shard_bytes: int = 5_000_000_000,
) -> list[Path]:
    """Write `tensors` to `<stem>.safetensors`, or to shards with an index if they are larger.

    Shards hold the tensors in the given order. Each file is written atomically, the index last.

    Returns:
        The files written.

    Raises:
        CheckpointError: the disk is full or failing.
    """
    if max_shard_bytes <= 0:
        raise ArgumentError(
            f"save_sharded: max_shard_bytes must be positive, got {max_shard_bytes}"
        )
    folder = Path(folder)
    shards: list[dict[str, Tensor]] = [{}]
    used, total = 0, 0
    for name, tensor in tensors.items():
        size = tensor.nbytes
        if shards[-1] and used + size > max_shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += size
        total += size
    if len(shards) == 1:
        path = folder / f"{stem}.safetensors"
        save_file(shards[0], path, {"format": "pt"})
        return [path]
    paths, weight_map = [], {}
    for number, shard in enumerate(shards, 1):
        path = folder / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, path, {"format": "pt"})
        paths.append(path)
        weight_map.update(dict.fromkeys(split_packed(shard, None)[0], path.name))
    index = folder / f"{stem}.safetensors.index.json"
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
    atomic.write_text(index, text + "\n")
    return [*paths, index]


def _whole(file: TensorFile, stored: str) -> str:
    """The tensor of a stored name, which may be that of a packed tensor's part."""
    return file.whole.get(stored, stored) if isinstance(file, SafetensorsFile) else stored


def read_index(path: Path) -> dict[str, str]:
    """Return the file of each tensor from an index; the files are in its folder.

    Raises:
        FileFormatError: it is damaged, or names a file outside its folder.
    """
    index: Any = read_json(path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise FileFormatError(f"{path}: expected an object with a 'weight_map' that is not empty")
    for tensor, name in weight_map.items():
        # A name with a folder could point anywhere; shards are in the folder of their index.
        proper = isinstance(name, str) and name not in {"", ".", ".."} and len(name) < 256
        if not proper or set(name) & set("/\\\0:"):
            raise FileFormatError(
                f"{path}: {name!r:.300}, for {tensor!r:.300}, is not the name of a file beside it"
            )
    return weight_map
