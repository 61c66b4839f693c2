"""The formats of stored models: `open_checkpoint`.

folder        config.json beside *.safetensors, or else pytorch_model.bin (sharded or not);
              without a config.json, the one .gguf file in it
.gguf         GGUF, with everything that llama.cpp writes to it
.bin          llama2.c, version 0 or 1; or PyTorch's
.pt .pth      PyTorch's zip format, with config.json beside it
.safetensors  with config.json beside it, under this ending or another (`gradient.save` takes any)
"""

from __future__ import annotations

from pathlib import Path

from gradient.checkpoints.checkpoint import Checkpoint, first_parts, open_folder
from gradient.checkpoints.gguf.checkpoint import GGUFCheckpoint
from gradient.checkpoints.llama2c import Llama2cCheckpoint
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.mapping import map_file
from gradient.io.regular_file import open_regular
from gradient.io.safetensors import SafetensorsFile
from gradient.io.signatures import SIGNATURE_BYTES, describe, format_of, instead_of_weights
from gradient.io.torch_file import TorchFile
from gradient.models.config import CONFIG_NAME

__all__ = ["open_checkpoint"]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model's folder or file; at first only its format is read.

    It may be weights without a model: then it has no `config`.

    Raises:
        ModelNotFound: there is no such path, or it is a folder with several GGUF files.
        FileFormatError: a file of an unsupported format.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise ModelNotFound(f"{path}: there is no such folder or file")
    with open_regular(path) as file:
        beginning = file.read(SIGNATURE_BYTES)
        if format_of(beginning) == "gguf":
            return GGUFCheckpoint(path, map_file(file))
    if format_of(beginning) == "zip":
        return Checkpoint(path, TorchFile)
    if path.suffix == ".safetensors" or format_of(beginning) == "safetensors":
        return Checkpoint(path, SafetensorsFile)
    if path.suffix == ".bin" and not describe(beginning):
        return Llama2cCheckpoint(path)
    if path.suffix in (".pt", ".pth", ".ckpt"):
        TorchFile(path)  # raises, and describes the file
    what = instead_of_weights(beginning)
    raise FileFormatError(
        f"{path}: not a format that gradient reads{f' (it is {what})' if what else ''}; expected a "
        "folder, or a file in the GGUF, "
        "safetensors, PyTorch (.pt, .pth, .bin) or llama2.c (.bin) format"
    )


def _open_folder(folder: Path) -> Checkpoint:
    files = [] if (folder / CONFIG_NAME).exists() else first_parts(folder, "*.gguf")
    if len(files) > 1:
        listed = ", ".join(file.name for file in files)
        raise ModelNotFound(f"{folder}: holds several GGUF files, give one of them: {listed}")
    return GGUFCheckpoint(files[0]) if files else Checkpoint(folder, open_folder)
