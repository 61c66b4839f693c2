"""A stored model: `Checkpoint`, and Hugging Face folders read as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from gradient.checkpoints.generation_config import read_generation_config
from gradient.checkpoints.gptq import METHODS, GPTQWeights, is_quantized
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.json_file import read_json
from gradient.io.sharded import open_sharded, open_sharded_torch
from gradient.io.tensor_file import TensorFile
from gradient.models.config import CONFIG_NAME
from gradient.text import Tokenizer
from gradient.text.files import has_tokenizer

__all__ = ["Checkpoint"]

MAX_CONFIG_BYTES = 16 * 1024 * 1024  # a config.json has a few KB; a larger file is something else


class Checkpoint:
    """A stored model. Each part is read once, on first use.

    This class reads the files beside the weights in Hugging Face's layout; a format whose file
    contains more is a subclass.

    Args:
        path: the folder or file of the weights.
        open_weights: a function that opens it; only headers are read.
    """

    def __init__(self, path: Path, open_weights: Callable[[Path], TensorFile]) -> None:
        self.path = path
        self._open_weights = open_weights

    @property
    def folder(self) -> Path:
        """The folder of the checkpoint, or of its file."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json's content.

        Raises:
            ModelNotFound: there is none: these are weights without a model.
            FileFormatError: it is malformed, or there is none and the weights are.
        """
        try:
            return read_config(self.folder)
        except ModelNotFound as error:
            if not self.path.is_file():
                raise
            _ = self.tensors  # a damaged file raises its own error
            raise ModelNotFound(
                f"{error}. The tensors of {self.path.name} alone are read by gradient.load"
            ) from None

    @cached_property
    def tensors(self) -> TensorFile:
        """The tensors under the names in the file: views of the mapped file.

        Raises:
            ModelNotFound: there are none, or one of several files is missing.
            FileFormatError: a file is truncated or malformed.
        """
        return self._open_weights(self.path)

    @cached_property
    def weights(self) -> TensorFile:
        """The tensors under their Hugging Face names, each made on first use; errors as of
        `tensors`.

        Weights quantised by GPTQ or AWQ are packed as `int4_group`.

        Raises:
            UnsupportedModel: they do not have 4 bits, or have an unsupported layout.
        """
        if is_quantized(self.tensors):
            settings = self.config.get("quantization_config")
            if isinstance(settings, dict) and settings.get("quant_method") in METHODS:
                return GPTQWeights(self.tensors, settings)
        return self.tensors

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata in the file of weights, if the format has any."""
        return {}

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """generation_config.json's content; {} without this file, or without a config.json.

        Without a config.json it may belong to other weights.

        Raises:
            FileFormatError: it is malformed.
        """
        is_model = (self.folder / CONFIG_NAME).is_file()
        return read_generation_config(self.folder) if is_model else {}

    def load_tokenizer(self) -> Tokenizer:
        """Read the tokenizer.

        Raises:
            ModelNotFound: there is none.
            FileFormatError: it is damaged.
        """
        try:
            return Tokenizer.from_folder(self.folder)
        except ModelNotFound:
            pieces = sorted(self.folder.glob("*.model"))  # llama2.c's may have any name
            if len(pieces) != 1:
                raise
            return Tokenizer.from_file(pieces[0])

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer; None if there is none. A damaged one raises FileFormatError."""
        try:
            return self.load_tokenizer()
        except ModelNotFound:
            return None

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a tokenizer; it is not read."""
        return has_tokenizer(self.folder)

    @property
    def chat_template(self) -> str | Mapping[str, str] | None:
        """The tokenizer's chat template, or several by name; None if there is none."""
        return None if self.tokenizer is None else self.tokenizer.chat_template

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


def open_folder(folder: Path) -> TensorFile:
    """A folder's weights: *.safetensors, or else pytorch_model.bin, sharded or not.

    Raises:
        ModelNotFound, FileFormatError: see `Checkpoint.tensors`.
    """
    try:
        return open_sharded(folder)
    except ModelNotFound as error:
        for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
            if (folder / name).is_file():
                return open_sharded_torch(folder)
        others = [file.name for file in first_parts(folder, "*.pt*")]
        if not others:
            raise
        raise ModelNotFound(f"{error}\nfix: name the file to load: {', '.join(others)}") from None


def first_parts(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder that match a pattern, without the later parts of split ones."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    return [path for path in found if "-of-" not in path.name or "-00001-of-" in path.name]


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's config.json.

    Raises:
        ModelNotFound: there is no such folder, or no config.json in it.
        FileFormatError: it is not a JSON object.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder}: there is no such folder")
    if not (folder / CONFIG_NAME).exists():  # read_json refuses other things than files
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
