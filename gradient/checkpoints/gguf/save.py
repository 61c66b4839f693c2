"""Writes a model and its tokenizer to one GGUF file, for gradient and llama.cpp."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

import gradient
from gradient.checkpoints.generation_config import eos_token_ids
from gradient.checkpoints.gguf.config import architecture_of, special_ids, write_config
from gradient.checkpoints.gguf.weights import Cast, Choose, to_tensors
from gradient.checkpoints.weight_names import to_checkpoint
from gradient.dtypes import BlockDType, PackedDType, dtype_of
from gradient.errors import ArgumentError
from gradient.io import gguf
from gradient.io.arrays import tensor_of
from gradient.models.pretrained import PretrainedModel
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.text import Tokenizer

__all__ = ["save_gguf"]

#: llama.cpp's `llama_ftype` of unpacked dtypes; a packed one has its `file_type`.
_FILE_TYPES = {"float32": 0, "float16": 1, "bfloat16": 32}
_UNUSED = 5  # the token type of ids without a text
#: Metadata that describe the original file, not the one to be written.
_OF_THE_FILE = (
    "general.architecture",
    "general.type",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
)


def save_gguf(
    model: PretrainedModel,
    path: str | os.PathLike[str],
    *,
    tokenizer: Tokenizer | None = None,
    metadata: Mapping[str, Any] | None = None,
    dtype: gradient.DType | None = None,
    choose: Choose | None = None,
    cast: Cast | None = None,
    mostly: gradient.DType | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write a model to a GGUF file, atomically and one tensor at a time.

    Vectors are stored in float32, for any dtype of the matrices; packed weights are not changed.

    Args:
        tokenizer: the tokenizer to write into the file; None: none.
        metadata: more keys, such as general.name; a vocabulary among them replaces the
            tokenizer's.
        dtype: floating dtype of matrices; None: keep each dtype.
        choose, cast: the dtype of each matrix, and the conversion; see `to_gguf`.
        mostly: the format for `general.file_type`, if a tensor has it; default: `dtype`. Otherwise
            it is the format of most bytes, which in a small model may be the embedding's.
        progress: called with (bytes written, total bytes).

    Returns:
        The bytes of the tensors of each dtype, by its name.

    Raises:
        UnsupportedModel: a model, or a tokenizer, that GGUF cannot express.
        ArgumentError: the tokenizer has more tokens than the model.
        CheckpointError: the disk is full or failing; an older file at `path` is unchanged.
    """
    if choose is None and dtype is not None:
        wanted = dtype
        choose = lambda name, shape, stored: wanted  # noqa: E731
    described, tensors = to_gguf(model, choose=choose, cast=cast or to_dtype)
    extra = {k: v for k, v in (metadata or {}).items() if k not in _OF_THE_FILE}
    if "tokenizer.ggml.tokens" not in extra and tokenizer is not None:
        from gradient.text.gguf import metadata_of

        extra |= metadata_of(tokenizer)
        extra = special_ids(_with_ends(model), tokenizer.eos_id) | extra
    described |= extra
    _fill_vocabulary(described, model.config.vocab_size)
    sizes: dict[str, int] = defaultdict(int)
    for tensor in tensors.values():
        sizes[tensor.dtype.name] += bytes_of(tensor)
    said = mostly or dtype
    if said is None or said.name not in sizes:
        said = dtype_of(max(sizes, key=sizes.__getitem__, default="float32"))
    described["general.file_type"] = _file_type(said)
    if any(tensor.dtype.is_packed for tensor in tensors.values()):
        described["general.quantization_version"] = 2
    gguf.write(path, described, tensors, progress=progress)
    return dict(sizes)


def to_gguf(
    model: PretrainedModel, *, choose: Choose | None = None, cast: Cast | None = None
) -> tuple[dict[str, Any], dict[str, Tensor | gguf.LazyTensor]]:
    """Return the metadata and tensors of a GGUF file, for `gradient.io.gguf.write`.

    Of the tokenizer, the metadata have only the ids of special tokens.

    Args:
        choose: the dtype of a matrix by its GGUF name, shape and dtype; default: unchanged. Vectors
            are stored in float32.
        cast: converts a tensor to the chosen dtype; default: `Tensor.to`, which does not support
            packed dtypes (`gradient.quantization.quantize` does).

    Raises:
        UnsupportedModel: a model type or settings that GGUF cannot express; all are listed.
        StateDictError: tensors that the architecture does not have; all are listed.
    """
    config = model.config.to_hf()
    windows = [shape.window for shape in getattr(model, "kv_shapes", ())]
    rotary_kinds = getattr(model.config, "rotary_kinds", ())
    metadata, factors = write_config(config, windows, rotary_kinds)
    tensors: dict[str, Tensor | gguf.LazyTensor]
    tensors = {name: tensor_of(array) for name, array in factors.items()}
    tensors |= to_tensors(
        to_checkpoint(model),
        architecture_of(config),
        config,
        choose or (lambda name, shape, dtype: dtype),
        cast or _cast,
    )
    return metadata | special_ids(_with_ends(model)), tensors


def _with_ends(model: PretrainedModel) -> dict[str, Any]:
    """The model's config with the end-of-text tokens that its generation_config.json adds, which
    models that generate have."""
    config = model.config.to_hf()
    recommended = getattr(model, "generation_config", {})
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]  # in their order
    return config | {"eos_token_id": [*ends, *sorted(eos_token_ids(recommended))]}


def _cast(x: Tensor, dtype: gradient.DType) -> Tensor:
    return x.to(dtype)


def to_dtype(x: Tensor, dtype: gradient.DType) -> Tensor:
    """Return a tensor in an unpacked dtype."""
    return x.dequantize(dtype) if x.dtype.is_packed else x.to(dtype)


def bytes_of(tensor: Tensor | gguf.LazyTensor) -> int:
    """Return the bytes of a tensor in a file, also of one that is not made yet."""
    if isinstance(tensor.dtype, PackedDType):
        return tensor.dtype.nbytes(tuple(tensor.shape))
    return prod(tensor.shape) * tensor.dtype.itemsize


def _file_type(dtype: gradient.DType) -> int:
    """Return the `llama_ftype` of a file that is mostly in this dtype."""
    return dtype.file_type if isinstance(dtype, BlockDType) else _FILE_TYPES.get(dtype.name, 0)


def _fill_vocabulary(metadata: dict[str, Any], rows: int) -> None:
    """Name the rows of an embedding that is larger than the vocabulary: llama.cpp counts names."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return
    missing = rows - len(tokens)
    if missing < 0:
        raise ArgumentError(
            f"the tokenizer has {len(tokens):,} tokens and the model {rows:,}: it is not the "
            "model's own"
        )
    if not missing:
        return
    metadata["tokenizer.ggml.tokens"] = [*tokens, *(f"[PAD{n}]" for n in range(len(tokens), rows))]
    for key, value in (("token_type", np.int32(_UNUSED)), ("scores", np.float32(-1000))):
        name = f"tokenizer.ggml.{key}"
        if name in metadata:
            held = np.asarray(metadata[name], value.dtype)
            metadata[name] = np.concatenate([held, np.full(missing, value)])
