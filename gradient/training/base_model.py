"""A stored model as the start of a run: its shape, and its weights made trainable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradient
from gradient.checkpoints import open_checkpoint
from gradient.models import CausalLM, config_class, model_class
from gradient.nn import init
from gradient.tensor import Tensor


def shape_of(path: Path) -> tuple[dict[str, Any], int | None]:
    """The shape of a stored model, by the fields of `TrainConfig`, and its context length."""
    values = open_checkpoint(path).config
    model_class(values.get("model_type"))  # raises for a type that is not supported
    cls = config_class(values["model_type"])
    config = cls.from_hf(values)

    def get(name: str) -> Any:
        return getattr(config, name, None)

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


def with_vocabulary(model: CausalLM, size: int) -> CausalLM:
    """`model`, or one like it with rows for `size` tokens if it has fewer.

    A new row is the mean of the old ones: at first the new token is as likely as an average one,
    and the others hardly change (Hewitt 2021, "Initializing New Word Embeddings").
    """
    if size <= model.config.vocab_size:
        return model
    values = model.config.to_hf() | {"vocab_size": size}
    with init.skip_init():
        larger = type(model)(type(model.config).from_hf(values))
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


def unpacking(model: Any) -> Callable[[str, Tensor], Tensor]:
    """Dequantize packed weights, so that they can be trained."""

    def unpack(name: str, value: Tensor) -> Tensor:
        return value.dequantize() if value.dtype.is_packed else value

    return unpack
