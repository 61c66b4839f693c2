"""Models in GGUF files, in the terms of Hugging Face's: configuration, names and layouts both ways.

    config, weights = read_gguf("model.gguf")          # config.json's content, {name: Tensor}
    metadata, tensors = to_gguf(model)                 # for gradient.io.gguf.write

`architectures` holds what the two call each part, as tables.
"""

from __future__ import annotations

import os
from typing import Any

import gradient
from gradient.checkpoints.gguf.architectures import ARCHITECTURES
from gradient.checkpoints.gguf.config import (
    architecture_of,
    read_config,
    special_ids,
    write_config,
)
from gradient.checkpoints.gguf.rope import TENSORS as ROPE_TENSORS
from gradient.checkpoints.gguf.weights import Cast, Choose, GGUFWeights, to_tensors
from gradient.checkpoints.weight_names import to_checkpoint
from gradient.io.arrays import tensor_of
from gradient.io.gguf import GGUFFile, Pending
from gradient.models.pretrained import PretrainedModel
from gradient.tensor import Tensor

__all__ = ["from_gguf", "read_gguf", "supported_architectures", "to_gguf"]


def read_gguf(path: str | os.PathLike[str]) -> tuple[dict[str, Any], GGUFWeights]:
    """Return a GGUF file's model as config.json's content and weights by Hugging Face's names.

    The weights are made when asked for: views of the mapped file where nothing but their name
    differs; packed ones stay packed.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is malformed, or lacks what describes a model.
        UnsupportedModel: an architecture that gradient does not know.
    """
    return from_gguf(GGUFFile(path))


def from_gguf(file: GGUFFile) -> tuple[dict[str, Any], GGUFWeights]:
    """Return an open GGUF file's model; see `read_gguf`."""
    shapes = {name: entry.shape for name, entry in file.entries.items()}
    factors = {name: file[name].float().numpy() for name in ROPE_TENSORS if name in file.entries}
    config = read_config(file.metadata, shapes, factors, file.path)
    return config, GGUFWeights(file, architecture_of(config), config)


def to_gguf(
    model: PretrainedModel, *, choose: Choose | None = None, cast: Cast | None = None
) -> tuple[dict[str, Any], dict[str, Tensor | Pending]]:
    """Return the metadata and tensors that `gradient.io.gguf.write` makes a GGUF file of.

    The metadata say nothing of the tokenizer but the ids of special tokens.

    Args:
        choose: the dtype of a matrix by its GGUF name, shape and dtype; default as it is. Vectors
            are stored in float32.
        cast: makes a tensor one of the dtype chosen; default `Tensor.to`, which knows no packed
            dtypes (`gradient.quantization.quantize` does).

    Raises:
        UnsupportedModel: a model type or settings that GGUF has no words for, all listed.
        StateDictError: tensors that the architecture has no place for, all listed.
    """
    config = model.config.to_hf()
    windows = [shape.window for shape in getattr(model, "kv_shapes", ())]
    metadata, factors = write_config(config, windows)
    tensors: dict[str, Tensor | Pending] = {n: tensor_of(array) for n, array in factors.items()}
    tensors |= to_tensors(
        to_checkpoint(model),
        architecture_of(config),
        config,
        choose or (lambda name, shape, dtype: dtype),
        cast or _cast,
    )
    return metadata | special_ids(config), tensors


def _cast(x: Tensor, dtype: gradient.DType) -> Tensor:
    return x.to(dtype)


def supported_architectures() -> list[str]:
    """Return the names of the architectures that are read and written, sorted."""
    return sorted(each.name for each in ARCHITECTURES)
