"""The model of a run: new, a stored one, or a checkpoint's; and the finished one as a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import gradient
from gradient.checkpoints import load_model, save_model
from gradient.checkpoints.generation_config import eos_token_ids, write_generation_config
from gradient.dtypes.names import floating_dtype
from gradient.io.atomic import write_text
from gradient.models import CausalLM, config_class, model_class
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import LlamaConfig
from gradient.nn import init
from gradient.text import Tokenizer
from gradient.training.base_model import unpacking, with_vocabulary
from gradient.training.config import TrainConfig
from gradient.training.corpus import Corpus


def build_model(config: TrainConfig, corpus: Corpus) -> CausalLM:
    """The initial model of a run, in float32, with an embedding for every token of the
    tokenizer."""
    if config.base_model is None:
        model: CausalLM = new_model(config, corpus.tokenizer)
    else:
        base = load_model(config.base_model, dtype=gradient.float32, converter=unpacking)
        model = with_vocabulary(cast(CausalLM, base), corpus.tokenizer.vocab_size)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    model.generation_config = generation_config(corpus)
    return model.train()


def restored_model(model_config: Mapping[str, Any], corpus: Corpus) -> CausalLM:
    """A model for a checkpoint's configuration, without values; the checkpoint has the weights."""
    values = dict(model_config)
    cls: Any = model_class(values.get("model_type"))
    with init.skip_init():
        model = cls(config_class(values["model_type"]).from_hf(values))
    model.generation_config = generation_config(corpus)
    return model.train()


def new_model(config: TrainConfig, tokenizer: Tokenizer) -> CausalLM:
    """A model of the shape that `config` gives; the vocabulary is the tokenizer's."""
    shared: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.architecture == "llama":
        inner = config.intermediate_size or math.ceil(config.n_embd * 8 / 3 / 32) * 32
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=config.n_embd,
                intermediate_size=inner,
                num_hidden_layers=config.n_layer,
                num_attention_heads=config.n_head,
                num_key_value_heads=config.n_kv_head,
                max_position_embeddings=config.block_size,
                rms_norm_eps=1e-5,
                attention_dropout=config.dropout,
                **shared,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_inner=config.intermediate_size,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            **shared,
        )
    )


def generation_config(corpus: Corpus) -> dict[str, Any]:
    """generation_config.json: the content of the tokenizer's, and all tokens that end a text."""
    values, tokenizer = dict(corpus.generation_config), corpus.tokenizer
    ends = eos_token_ids(values) | set(corpus.end_of_turn)
    if tokenizer.eos_id is not None:
        ends |= {tokenizer.eos_id}
    listed: list[int] = sorted(ends)
    named = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    values = {name: number for name, number in named.items() if number is not None} | values
    return values | {"eos_token_id": listed[0] if len(listed) == 1 else listed}


def export_model(
    model: CausalLM, tokenizer: Tokenizer, folder: Path, *, dtype: str, record: dict[str, Any]
) -> Path:
    """Write a folder that `gradient.hub.load` and transformers read.

    It holds config.json, model.safetensors, generation_config.json, the tokenizer's files and
    training.json.

    Args:
        model: in any floating dtype; it is not changed.
        dtype: of the stored weights, by name: float32, bfloat16 or float16.
        record: the origin of the model, for training.json.

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
