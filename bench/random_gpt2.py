"""Folders of GPT-2s with random weights, to load and decode: speed does not depend on values."""

from __future__ import annotations

from pathlib import Path

import gradient
from gradient.checkpoints import save_model
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel

SMALL = GPT2Config(
    vocab_size=8192,
    n_positions=512,
    n_embd=384,
    n_layer=6,
    n_head=6,
    bos_token_id=None,
    eos_token_id=None,
)
GPT2_124M = GPT2Config()


def write(config: GPT2Config, folder: Path) -> int:
    """Write such a model in transformers' layout; return the bytes of its weights' file."""
    gradient.manual_seed(0)
    save_model(GPT2LMHeadModel(config), folder)
    return (folder / "model.safetensors").stat().st_size


def describe(config: GPT2Config, file_bytes: int) -> str:
    return f"GPT-2 {config.n_layer} x {config.n_embd}, {file_bytes / 1e6:,.0f} MB float32"
