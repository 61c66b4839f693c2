"""The finished model as a Hugging Face style folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gradient.checkpoints import save_model
from gradient.checkpoints.generation_config import write_generation_config
from gradient.dtypes.names import floating_dtype
from gradient.io.atomic import write_text
from gradient.models import CausalLM
from gradient.text import Tokenizer


def export_model(
    model: CausalLM, tokenizer: Tokenizer, folder: Path, *, dtype: str, record: dict[str, Any]
) -> Path:
    """Write a folder that `gradient.hub.load` and transformers read.

    It holds config.json, model.safetensors, generation_config.json, the tokenizer's files and
    training.json.

    Args:
        model: in any floating dtype; it is not changed.
        dtype: of the stored weights, by name: float32, bfloat16 or float16.
        record: what training.json says of how the model came to be.

    Raises:
        CheckpointError: the disk is full, read-only or failing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = model
    wanted = floating_dtype(dtype)
    if model.dtype != wanted:
        stored = type(model)(model.config)
        stored.load_state_dict(model.state_dict())
        stored.to(dtype=wanted)
    save_model(stored, folder)
    tokenizer.save(folder)
    write_generation_config(model.generation_config, folder)
    write_text(folder / "training.json", json.dumps(record, indent=2) + "\n")
    return folder
