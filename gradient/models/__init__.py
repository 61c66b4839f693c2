"""Language models, one file per architecture family; `gradient.checkpoints` loads them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradient.models.causal_lm import CausalLM
from gradient.models.config import ModelConfig
from gradient.models.encoder import EncoderModel
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
from gradient.models.pretrained import PretrainedModel
from gradient.models.registry import model_class, register_model, supported_models

if TYPE_CHECKING:
    from gradient.models.bert import BertConfig, BertForMaskedLM
    from gradient.models.distilbert import (
        DistilBertConfig,
        DistilBertForMaskedLM,
    )
    from gradient.models.gemma import (
        Gemma2ForCausalLM,
        Gemma3ForCausalLM,
        GemmaForCausalLM,
    )
    from gradient.models.gemma_config import (
        Gemma2Config,
        Gemma3Config,
        GemmaConfig,
    )
    from gradient.models.llama import (
        Ernie4_5ForCausalLM,
        LlamaForCausalLM,
        MistralForCausalLM,
        Phi3ForCausalLM,
        Qwen2ForCausalLM,
        Qwen3ForCausalLM,
    )
    from gradient.models.llama_config import (
        Ernie4_5Config,
        LlamaConfig,
        MistralConfig,
        Phi3Config,
        Qwen2Config,
        Qwen3Config,
    )
    from gradient.models.llama_moe import (
        MixtralConfig,
        MixtralForCausalLM,
        Qwen2MoeConfig,
        Qwen2MoeForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )
    from gradient.models.phi import PhiConfig, PhiForCausalLM
    from gradient.models.roberta import (
        RobertaConfig,
        RobertaForMaskedLM,
        XLMRobertaConfig,
        XLMRobertaForMaskedLM,
    )

#: Where the classes are that are imported when first named: a family's file when it is used.
_LATE = {
    "BertConfig": "bert",
    "BertForMaskedLM": "bert",
    "DistilBertConfig": "distilbert",
    "DistilBertForMaskedLM": "distilbert",
    "Ernie4_5Config": "llama_config",
    "Ernie4_5ForCausalLM": "llama",
    "Gemma2Config": "gemma_config",
    "Gemma2ForCausalLM": "gemma",
    "Gemma3Config": "gemma_config",
    "Gemma3ForCausalLM": "gemma",
    "GemmaConfig": "gemma_config",
    "GemmaForCausalLM": "gemma",
    "LlamaConfig": "llama_config",
    "LlamaForCausalLM": "llama",
    "MistralConfig": "llama_config",
    "MistralForCausalLM": "llama",
    "MixtralConfig": "llama_moe",
    "MixtralForCausalLM": "llama_moe",
    "Phi3Config": "llama_config",
    "Phi3ForCausalLM": "llama",
    "PhiConfig": "phi",
    "PhiForCausalLM": "phi",
    "Qwen2Config": "llama_config",
    "Qwen2ForCausalLM": "llama",
    "Qwen2MoeConfig": "llama_moe",
    "Qwen2MoeForCausalLM": "llama_moe",
    "Qwen3Config": "llama_config",
    "Qwen3ForCausalLM": "llama",
    "Qwen3MoeConfig": "llama_moe",
    "Qwen3MoeForCausalLM": "llama_moe",
    "RobertaConfig": "roberta",
    "RobertaForMaskedLM": "roberta",
    "XLMRobertaConfig": "roberta",
    "XLMRobertaForMaskedLM": "roberta",
}

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "CausalLM",
    "DistilBertConfig",
    "DistilBertForMaskedLM",
    "EncoderModel",
    "Ernie4_5Config",
    "Ernie4_5ForCausalLM",
    "GPT2Config",
    "GPT2LMHeadModel",
    "Gemma2Config",
    "Gemma2ForCausalLM",
    "Gemma3Config",
    "Gemma3ForCausalLM",
    "GemmaConfig",
    "GemmaForCausalLM",
    "LlamaConfig",
    "LlamaForCausalLM",
    "MistralConfig",
    "MistralForCausalLM",
    "MixtralConfig",
    "MixtralForCausalLM",
    "ModelConfig",
    "Phi3Config",
    "Phi3ForCausalLM",
    "PhiConfig",
    "PhiForCausalLM",
    "PretrainedModel",
    "Qwen2Config",
    "Qwen2ForCausalLM",
    "Qwen2MoeConfig",
    "Qwen2MoeForCausalLM",
    "Qwen3Config",
    "Qwen3ForCausalLM",
    "Qwen3MoeConfig",
    "Qwen3MoeForCausalLM",
    "RobertaConfig",
    "RobertaForMaskedLM",
    "XLMRobertaConfig",
    "XLMRobertaForMaskedLM",
    "model_class",
    "register_model",
    "supported_models",
]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
