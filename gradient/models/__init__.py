"""Language models, one file per architecture family; `gradient.checkpoints` loads them."""

from typing import TYPE_CHECKING

from gradient.models.causal_lm import CausalLM
from gradient.models.config import ModelConfig
from gradient.models.encoder import EncoderModel
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
from gradient.models.pretrained import PretrainedModel
from gradient.models.registry import (
    LATE,
    config_class,
    imported,
    model_class,
    register_model,
    supported_models,
)

if TYPE_CHECKING:
    from gradient.models.registry import *  # noqa: F403 (the families' classes)

__all__ = [
    "CausalLM",
    "EncoderModel",
    "GPT2Config",
    "GPT2LMHeadModel",
    "ModelConfig",
    "PretrainedModel",
    "config_class",
    "model_class",
    "register_model",
    "supported_models",
    *LATE,
]


def __getattr__(name: str) -> type:
    if name not in LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = imported(*LATE[name])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *LATE})
