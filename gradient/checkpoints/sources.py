"""Where a checkpoint's configuration and weights come from: folders and single files of any format.

Every source is made into the same two things: the content of a Hugging Face config.json, and a
mapping from Hugging Face's weight names to tensors that are views of mapped files.

    folder      config.json beside *.safetensors, or else pytorch_model.bin (sharded or not);
                without a config.json, the one .gguf file in it
    .gguf       GGUF, with all that llama.cpp writes into it
    .bin        llama2.c, version 0 or 1; or PyTorch's
    .pt .pth    PyTorch's zip format, with config.json beside it
    .safetensors  with config.json beside it
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gradient.checkpoints.llama2c import Llama2cFile
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.json_file import read_json
from gradient.io.lookalikes import lookalike
from gradient.io.regular_file import open_regular
from gradient.io.safetensors import SafetensorsFile
from gradient.io.sharded import open_sharded, open_sharded_torch
from gradient.io.torch_file import TorchFile, is_zip
from gradient.models.config import CONFIG_NAME
from gradient.tensor import Tensor

MAX_CONFIG_BYTES = 16 * 1024 * 1024  # a config.json has a few KB: beyond this it is something else


class Weights(Protocol):
    """A model's tensors by name, each made when asked for: what every format's file is."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, name: str) -> Tensor: ...

    def items(self) -> ItemsView[str, Tensor]: ...

    def release(self, name: str) -> None:
        """Give back the memory that reading a tensor took; it can be read again."""


@dataclass
class Checkpoint:
    """A model as it is stored.

    Attributes:
        where: the file or folder, for errors.
        config: config.json's content.
        weights: tensors by Hugging Face's names, each made when asked for.
    """

    where: Path
    config: dict[str, Any]
    weights: Weights


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model's folder or file; only headers are read.

    Raises:
        ModelNotFound: there is no such path, or a file that belongs to it is absent.
        FileFormatError: a file is truncated, malformed, or of no format that is read here.
    """
    path = Path(path)
    gguf = find_gguf(path)
    if gguf is not None:
        from gradient.checkpoints.gguf import read_gguf

        config, weights = read_gguf(gguf)
        return Checkpoint(gguf, config, weights)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise ModelNotFound(f"{path}: there is no such folder or file")
    with open_regular(path) as file:
        beginning = file.read(64)
    if is_zip(beginning[:4]):
        return Checkpoint(path, read_config(path.parent), TorchFile(path))
    if path.suffix == ".safetensors":
        return Checkpoint(path, read_config(path.parent), SafetensorsFile(path))
    if path.suffix == ".bin":
        checkpoint = Llama2cFile(path)
        return Checkpoint(path, checkpoint.config, checkpoint)
    if path.suffix in (".pt", ".pth", ".ckpt"):
        TorchFile(path)  # raises: its error tells what the file is instead
    what = lookalike(beginning)
    raise FileFormatError(
        f"{path}: not a format that gradient reads{f' (it is {what})' if what else ''}; expected a "
        "folder, or a file in the GGUF, "
        "safetensors, PyTorch (.pt, .pth, .bin) or llama2.c (.bin) format"
    )


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file that `path` is, or the one in a folder that has no config.json.

    Raises:
        ModelNotFound: the folder holds several models.
    """
    if path.is_file():
        with open_regular(path) as file:
            return path if file.read(4) == b"GGUF" else None
    if not path.is_dir() or (path / CONFIG_NAME).exists():
        return None
    files = _model_files(path, "*.gguf")
    if len(files) > 1:
        listed = ", ".join(file.name for file in files)
        raise ModelNotFound(f"{path}: holds several GGUF files, give one of them: {listed}")
    return files[0] if files else None


def _open_folder(folder: Path) -> Checkpoint:
    config = read_config(folder)
    try:
        return Checkpoint(folder, config, open_sharded(folder))
    except ModelNotFound as error:
        for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
            if (folder / name).is_file():
                return Checkpoint(folder, config, open_sharded_torch(folder))
        others = [file.name for file in _model_files(folder, "*.pt*")]
        if not others:
            raise
        raise ModelNotFound(f"{error}\nfix: name the file to load: {', '.join(others)}") from None


def _model_files(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern, without the later parts of split ones."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    return [path for path in found if "-of-" not in path.name or "-00001-of-" in path.name]


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json.

    Raises:
        ModelNotFound: there is no such folder, or no config.json in it.
        FileFormatError: it is not a JSON object.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder}: there is no such folder")
    if not (folder / CONFIG_NAME).exists():  # what is there and no file, read_json refuses
        if (folder / "adapter_config.json").is_file():
            raise ModelNotFound(
                f"{folder}: holds an adapter (LoRA and the like), no model; merge it into its base "
                "model and load that"
            )
        raise ModelNotFound(
            f"{folder}: there is no {CONFIG_NAME}; expected the folder of a model (with "
            f"{CONFIG_NAME}, *.safetensors and a tokenizer) or of a training run that has saved one"
        )
    values = read_json(folder / CONFIG_NAME, MAX_CONFIG_BYTES)
    if not isinstance(values, dict):
        raise FileFormatError(
            f"{folder / CONFIG_NAME}: expected a JSON object, got {type(values).__name__}"
        )
    return values
