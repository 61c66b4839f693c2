"""GGUF files of models with random weights, made by `gradient`: speed does not depend on values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import gradient
from bench import fresh_process
from gradient.checkpoints.gguf.save import save_gguf
from gradient.models.gpt2 import GPT2Config
from gradient.models.llama import LlamaConfig
from gradient.models.llama_config import Qwen2Config
from gradient.models.llama_moe import MixtralConfig
from gradient.models.registry import model_class

SMALL = LlamaConfig(
    vocab_size=4096,
    hidden_size=512,
    intermediate_size=1408,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=2,
    max_position_embeddings=4096,
)
LLAMA_1B = LlamaConfig(
    vocab_size=32000,
    hidden_size=2048,
    intermediate_size=5632,
    num_hidden_layers=22,
    num_attention_heads=32,
    num_key_value_heads=4,
    max_position_embeddings=4096,
)
"""The shape of TinyLlama-1.1B."""

OTHERS: dict[str, LlamaConfig | Qwen2Config | GPT2Config | MixtralConfig] = {
    "Qwen2 0.5B": Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    ),
    "GPT-2 124M": GPT2Config(n_positions=4096),
    "8 experts": MixtralConfig(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=4,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=4096,
    ),
}

BYTES = 256
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Token types of a GGUF vocabulary."""


def write(config: Any, folder: Path, name: str) -> Path:
    """Write a file in a format: bf16, or a format of `gradient quantize --to` or `convert --dtype`.

    An existing file is used as it is.
    """
    shape = f"{config.model_type}-{config.hidden_size}"
    base, file = (folder / f"{shape}-{each}.gguf" for each in ("bf16", name))
    if file.exists():
        return file
    if not base.exists():
        gradient.manual_seed(0)
        model = model_class(config.model_type)(config).to(gradient.bfloat16)
        save_gguf(model, base, metadata=_vocabulary(config.vocab_size))
    if file != base:
        convert(base, file, name)
    return file


def convert(source: Path, file: Path, name: str) -> None:
    """Write a model's file in another format."""
    command = ["convert", "--dtype"] if name in ("f16", "f32") else ["quantize", "--to"]
    _gradient(command[0], str(source), str(file), command[1], name)


def _gradient(*arguments: str) -> None:
    fresh_process.run("from gradient.cli import main; main()", *arguments, threads=None)


def _vocabulary(size: int) -> dict[str, object]:
    """Metadata of a SentencePiece vocabulary with bytes, and words that occur in no text."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(BYTES))]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * BYTES]
    words = size - len(tokens)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*tokens, *(f"\u2581word{i}" for i in range(words))],
        "tokenizer.ggml.scores": -np.arange(size, dtype=np.float32),
        "tokenizer.ggml.token_type": np.array([*kinds, *[NORMAL] * words], np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
