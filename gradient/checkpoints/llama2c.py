"""The .bin checkpoints of llama2.c: a header of a few integers, and consecutive float32 weights.

Version 0 begins with seven int32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size
(negative if the output matrix is not the embedding) and the context length. Version 1 begins with
the magic number "ak42", the version, the same seven, and a byte for whether the embedding is
shared; its weights begin at byte 256, in another order. A matrix is (out, in), and all layers'
matrices of one kind are consecutive.

Format: https://github.com/karpathy/llama2.c, run.c and export.py
"""

from __future__ import annotations

import os
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gradient.checkpoints.checkpoint import Checkpoint
from gradient.checkpoints.rotary_rows import halves_from_pairs
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.arrays import tensor_of
from gradient.io.mapping import map_file, release_pages
from gradient.io.regular_file import open_regular
from gradient.io.tensor_file import TensorFile
from gradient.tensor import Tensor

MAGIC = 0x616B3432
V1_HEADER_BYTES = 256
_FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")


class Llama2cCheckpoint(Checkpoint):
    """A llama2.c checkpoint, with its configuration in the header; a tokenizer may be beside it."""

    tensors: Llama2cFile

    def __init__(self, path: Path) -> None:
        super().__init__(path, Llama2cFile)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json's content for the model."""
        return self.tensors.config

    @property
    def generation_config(self) -> dict[str, Any]:
        """Empty: the format has none, and a file beside it belongs to another model."""
        return {}


class Llama2cFile(TensorFile):
    """An open llama2.c checkpoint: its weights under Hugging Face names, in their layout.

    They are views of the mapped file, except the query and key matrices: llama2.c rotates pairs of
    neighbouring rows, Hugging Face's LLaMA a head's first half with its second, so their rows
    are reordered.

    Attributes:
        config: config.json's content for the model.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: its size does not fit its header, or its header describes no model.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        try:
            with open_regular(self.path) as file:
                self._bytes = os.fstat(file.fileno()).st_size
                header = file.read(V1_HEADER_BYTES)
                self.version, self.header, self.shared, start = self._read_header(header)
                self._entries = self._lay_out(start)
                self._map = map_file(file)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ModelNotFound(f"no checkpoint at {self.path}: {error.strerror}") from None
        self.names = self._entries
        self.config: dict[str, Any] = {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": self.header["vocab_size"],
            "hidden_size": self.header["dim"],
            "intermediate_size": self.header["hidden_dim"],
            "num_hidden_layers": self.header["n_layers"],
            "num_attention_heads": self.header["n_heads"],
            "num_key_value_heads": self.header["n_kv_heads"],
            "max_position_embeddings": self.header["seq_len"],
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.shared,
            "bos_token_id": 1,
            # Texts in the training data are divided by BOS; the tokenizer's own EOS does not occur.
            "eos_token_id": [1, 2],
        }

    def __getitem__(self, name: str) -> Tensor:
        start, shape = self._entries[name]
        array = np.frombuffer(self._map, "<f4", prod(shape), start).reshape(shape)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            size = self.header["dim"] // self.header["n_heads"]
            array = array[halves_from_pairs(shape[0] // size, size)]  # a copy
            self.release(name)
        return tensor_of(array)

    @property
    def nbytes(self) -> int:
        return sum(4 * prod(shape) for _, shape in self._entries.values())

    def release(self, name: str) -> None:
        start, shape = self._entries[name]
        release_pages(self._map, start, start + 4 * prod(shape))

    def _wrong(self, what: str) -> FileFormatError:
        return FileFormatError(f"{self.path} is not a llama2.c checkpoint: {what}")

    def _read_header(self, header: bytes) -> tuple[int, dict[str, int], bool, int]:
        """Version, fields, whether the embedding is shared, and the offset of the weights."""
        if len(header) < 28:
            raise self._wrong(f"it has {self._bytes} bytes, too few for a header")
        numbers = np.frombuffer(header[: len(header) // 4 * 4], "<i4").tolist()
        if numbers[0] != MAGIC:
            version, fields, start = 0, numbers[:7], 28
            shared = fields[5] > 0
            fields[5] = abs(fields[5])
        else:
            version = numbers[1]
            if version != 1:
                raise self._wrong(
                    f"its version is {version}; versions 0 and 1 are read. Export it again with "
                    "--version 1"
                )
            if len(header) < V1_HEADER_BYTES:
                raise self._wrong(f"it has {self._bytes} bytes, too few for a header")
            fields, shared, start = numbers[2:9], header[36] != 0, V1_HEADER_BYTES
        named = dict(zip(_FIELDS, fields, strict=True))
        wrong = [f"{name} = {value}" for name, value in named.items() if value < 1]
        if wrong or named["dim"] % named["n_heads"]:
            raise self._wrong(
                f"its header does not describe a model ({', '.join(wrong) or named}). Other .bin "
                "files that are read are PyTorch's, saved by version 1.6 or later"
            )
        return version, named, shared, start

    def _lay_out(self, start: int) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Each tensor's offset and shape, in the file's order."""
        h = self.header
        dim, hidden, layers = h["dim"], h["hidden_dim"], h["n_layers"]
        size = dim // h["n_heads"]
        kv = h["n_kv_heads"] * size
        embedding = ("model.embed_tokens.weight", (h["vocab_size"], dim))
        norm = ("model.norm.weight", (dim,))
        attention_norms = ("input_layernorm", (dim,))
        mlp_norms = ("post_attention_layernorm", (dim,))
        attention = [
            ("self_attn.q_proj", (dim, dim)),
            ("self_attn.k_proj", (kv, dim)),
            ("self_attn.v_proj", (kv, dim)),
            ("self_attn.o_proj", (dim, dim)),
        ]
        mlp = [
            ("mlp.gate_proj", (hidden, dim)),
            ("mlp.down_proj", (dim, hidden)),
            ("mlp.up_proj", (hidden, dim)),
        ]
        tables = 2 * h["seq_len"] * (size // 2)  # of cosines and sines, which are computed here
        order: list[Any]
        if self.version == 0:
            order = [embedding, attention_norms, *attention, mlp_norms, *mlp, norm, tables]
        else:
            order = [attention_norms, mlp_norms, norm, embedding, *attention, *mlp]
        if not self.shared:
            order.append(("lm_head.weight", (h["vocab_size"], dim)))
        if layers > self._bytes // (4 * dim):  # before a table of so many layers is made
            raise self._wrong(f"{layers:,} layers do not fit its {self._bytes:,} bytes")
        entries: dict[str, tuple[int, tuple[int, ...]]] = {}
        at = start
        for part in order:
            if isinstance(part, int):
                at += 4 * part
                continue
            name, shape = part
            for layer in range(1 if name.endswith(".weight") else layers):
                full = name if name.endswith(".weight") else f"model.layers.{layer}.{name}.weight"
                entries[full] = (at, shape)
                at += 4 * prod(shape)
        if at != self._bytes:
            raise self._wrong(
                f"its header ({', '.join(f'{name} {value}' for name, value in h.items())}) asks "
                f"for {at:,} bytes, and it has {self._bytes:,}: it is truncated, or another format"
            )
        return entries
