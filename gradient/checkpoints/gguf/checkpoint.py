"""A GGUF file as a `Checkpoint`, with Hugging Face's configuration, names and layouts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from gradient.checkpoints.checkpoint import Checkpoint
from gradient.checkpoints.gguf.config import architecture_of, read_config
from gradient.checkpoints.gguf.rope import TENSORS as ROPE_TENSORS
from gradient.checkpoints.gguf.weights import GGUFWeights
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.gguf import GGUFFile
from gradient.io.mapping import Mapped
from gradient.text import Tokenizer
from gradient.text.files import errors_name
from gradient.text.gguf import has_vocabulary

__all__ = ["GGUFCheckpoint"]


class GGUFCheckpoint(Checkpoint):
    """A GGUF file, whole or split, which also contains the configuration and the tokenizer.

    Its weights are views of the mapped file if they differ from Hugging Face's only in their
    names; packed ones stay packed.

    Args:
        path: the file.
        mapped: the content of a file that is already open.

    Raises, beside the errors of `Checkpoint`:
        UnsupportedModel: an unknown architecture (`config`, `weights`).
    """

    tensors: GGUFFile

    def __init__(self, path: Path, mapped: Mapped | None = None) -> None:
        super().__init__(path, partial(GGUFFile, mapped=mapped))

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json's content for the model."""
        file = self.tensors
        shapes = {name: entry.shape for name, entry in file.entries.items()}
        factors = {n: file[n].float().numpy() for n in ROPE_TENSORS if n in file.entries}
        return read_config(file.metadata, shapes, factors, file.path)

    @cached_property
    def weights(self) -> GGUFWeights:
        """The tensors by Hugging Face's names."""
        return GGUFWeights(self.tensors, architecture_of(self.config), self.config)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The file's metadata, each value with its stored type."""
        return self.tensors.typed_metadata

    @property
    def generation_config(self) -> dict[str, Any]:
        """Empty: `config` has the end-of-text tokens, and files beside it are of other models."""
        return {}

    def load_tokenizer(self) -> Tokenizer:
        """Read the tokenizer in the file."""
        if not self.has_tokenizer:
            raise ModelNotFound(f"{self.path} holds no tokenizer")
        with errors_name(self.path, FileFormatError):
            return Tokenizer.from_gguf(self.tensors.metadata)

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a tokenizer; it is not read."""
        return has_vocabulary(self.tensors.metadata)
