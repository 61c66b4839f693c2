"""The model of a run: new, another's weights to go on from, or a checkpoint's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradient
from gradient.checkpoints import load_model
from gradient.checkpoints.generation_config import eos_token_ids
from gradient.checkpoints.sources import open_checkpoint
from gradient.models import CausalLM, model_class
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import LlamaConfig
from gradient.nn import init
from gradient.tensor import Tensor
from gradient.text import Tokenizer
from gradient.training.config import TrainConfig
from gradient.training.corpus import Corpus


def build_model(config: TrainConfig, corpus: Corpus) -> CausalLM:
    """The model that a run begins with, in float32, with a token for all that its tokenizer has."""
    if config.base_model is None:
        model: CausalLM = new_model(config, corpus.tokenizer)
    else:
        model = load_model(config.base_model, dtype=gradient.float32, converter=_unpacking)
        model = with_vocabulary(model, corpus.tokenizer.vocab_size)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    model.generation_config = generation_config(corpus)
    return model.train()


def restored_model(model_config: Mapping[str, Any], corpus: Corpus) -> CausalLM:
    """A model of a checkpoint's configuration, for the weights that lie beside it."""
    values = dict(model_config)
    cls = model_class(values.get("model_type"))
    with init.skip_init():
        model: Any = cls(cls.config_class.from_hf(values))
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


def shape_of(path: Path) -> tuple[dict[str, Any], int | None]:
    """The shape of a stored model, by the fields of `TrainConfig`, and its context length."""
    values = open_checkpoint(path).config
    cls = model_class(values.get("model_type")).config_class
    config = cls.from_hf(values)

    def get(name: str) -> Any:
        return getattr(config, config.aliases.get(name, name), None)

    kv_heads = get("num_key_value_heads")
    shape = {
        "architecture": str(values["model_type"]),
        "n_layer": get("num_hidden_layers"),
        "n_head": get("num_attention_heads"),
        "n_kv_head": kv_heads if kv_heads != get("num_attention_heads") else None,
        "n_embd": get("hidden_size"),
        "intermediate_size": get("intermediate_size") or get("n_inner"),
        "tie_embeddings": config.tie_word_embeddings,
        "dropout": get("attention_dropout") or get("attn_pdrop") or 0.0,
    }
    return shape, get("max_position_embeddings")


def generation_config(corpus: Corpus) -> dict[str, Any]:
    """generation_config.json: what lay beside the tokenizer, and all tokens that end a text."""
    values, tokenizer = dict(corpus.generation_config), corpus.tokenizer
    ends = eos_token_ids(values) | set(corpus.end_of_turn)
    if tokenizer.eos_id is not None:
        ends |= {tokenizer.eos_id}
    listed: list[int] = sorted(ends)
    named = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    values = {name: number for name, number in named.items() if number is not None} | values
    return values | {"eos_token_id": listed[0] if len(listed) == 1 else listed}


def with_vocabulary(model: CausalLM, size: int) -> CausalLM:
    """`model`, or one like it with rows for `size` tokens if it has fewer.

    A new row is the mean of the old ones: the new token begins as likely as an average one, and no
    likelier than all (Hewitt 2021, "Initializing New Word Embeddings").
    """
    if size <= model.config.vocab_size:
        return model
    values = model.config.to_hf() | {"vocab_size": size}
    larger: Any = type(model)
    with init.skip_init():
        larger = larger(type(model).config_class.from_hf(values))
    old, new = model.state_dict(), larger.state_dict()
    state: dict[str, Tensor] = {}
    for name, value in new.items():
        weight = old[name]
        if tuple(weight.shape) != tuple(value.shape):
            more = weight.mean(dim=0, keepdim=True)
            count = value.shape[0] - weight.shape[0]
            weight = gradient.cat([weight, more.expand(count, *weight.shape[1:])])
        state[name] = weight
    larger.load_state_dict(state)
    return larger


def _unpacking(model: Any) -> Callable[[str, Tensor], Tensor]:
    """Packed weights (of a quantised file) as the floats that they stand for: those can learn."""

    def unpack(name: str, value: Tensor) -> Tensor:
        return value.dequantize() if value.dtype.is_packed else value

    return unpack
