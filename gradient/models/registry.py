"""Which classes build which `model_type` of config.json.

A model file is imported when its first model is loaded. To add a family: write its file, add a row
here; or, outside the package, decorate the class with `register_model`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from gradient.errors import UnsupportedModel

if TYPE_CHECKING:  # type checkers find the classes here that `LATE` names
    # ruff: noqa: F403
    from gradient.models.bert import *
    from gradient.models.config import ModelConfig
    from gradient.models.deepseek_v2 import *
    from gradient.models.distilbert import *
    from gradient.models.falcon import *
    from gradient.models.gemma import *
    from gradient.models.glm4 import *
    from gradient.models.gpt_neo import *
    from gradient.models.gpt_neox import *
    from gradient.models.granite import *
    from gradient.models.llama import *
    from gradient.models.llama_moe import *
    from gradient.models.olmo2 import *
    from gradient.models.opt import *
    from gradient.models.phi import *
    from gradient.models.phi3 import *
    from gradient.models.pretrained import PretrainedModel
    from gradient.models.roberta import *
    from gradient.models.smollm3 import *
    from gradient.models.stablelm import *
    from gradient.models.starcoder2 import *


class Entry(NamedTuple):
    """The classes of one model type.

    Attributes:
        file: where they are, in gradient.models.
        model, config: their names.
        architecture: transformers' name of the model's class, as in config.json's `architectures`.
        gguf: llama.cpp's name of the architecture, as in a file's `general.architecture`, where the
            config has its words (`ModelConfig.gguf`). Several types may share one: the first reads
            it.
    """

    file: str
    model: str
    config: str
    architecture: str
    gguf: str = ""


MODELS: dict[str, Entry] = {
    "bert": Entry("bert", "BertForMaskedLM", "BertConfig", "BertForMaskedLM", "bert"),
    "deepseek_v2": Entry(
        "deepseek_v2", "DeepseekV2ForCausalLM", "DeepseekV2Config", "DeepseekV2ForCausalLM"
    ),
    "distilbert": Entry(
        "distilbert", "DistilBertForMaskedLM", "DistilBertConfig", "DistilBertForMaskedLM"
    ),
    "ernie4_5": Entry(
        "llama", "LlamaForCausalLM", "Ernie4_5Config", "Ernie4_5ForCausalLM", "ernie4_5"
    ),
    "falcon": Entry("falcon", "FalconForCausalLM", "FalconConfig", "FalconForCausalLM", "falcon"),
    "gemma": Entry("gemma", "GemmaForCausalLM", "GemmaConfig", "GemmaForCausalLM", "gemma"),
    "gemma2": Entry("gemma", "GemmaForCausalLM", "Gemma2Config", "Gemma2ForCausalLM", "gemma2"),
    "gemma3": Entry("gemma", "Gemma3ForCausalLM", "Gemma3Config", "Gemma3ForCausalLM", "gemma3"),
    "gemma3_text": Entry(
        "gemma", "Gemma3ForCausalLM", "Gemma3Config", "Gemma3ForCausalLM", "gemma3"
    ),
    "glm4": Entry("glm4", "Glm4ForCausalLM", "Glm4Config", "Glm4ForCausalLM", "glm4"),
    "gpt2": Entry("gpt2", "GPT2LMHeadModel", "GPT2Config", "GPT2LMHeadModel", "gpt2"),
    "gpt_neo": Entry("gpt_neo", "GPTNeoForCausalLM", "GPTNeoConfig", "GPTNeoForCausalLM"),
    "gpt_neox": Entry(
        "gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", "GPTNeoXForCausalLM", "gptneox"
    ),
    "granite": Entry(
        "granite", "LlamaForCausalLM", "GraniteConfig", "GraniteForCausalLM", "granite"
    ),
    "llama": Entry("llama", "LlamaForCausalLM", "LlamaConfig", "LlamaForCausalLM", "llama"),
    "mistral": Entry("llama", "LlamaForCausalLM", "MistralConfig", "MistralForCausalLM", "llama"),
    "mixtral": Entry(
        "llama_moe", "MixtralForCausalLM", "MixtralConfig", "MixtralForCausalLM", "llama"
    ),
    "olmo2": Entry("olmo2", "Olmo2ForCausalLM", "Olmo2Config", "Olmo2ForCausalLM", "olmo2"),
    "opt": Entry("opt", "OPTForCausalLM", "OPTConfig", "OPTForCausalLM"),
    "phi": Entry("phi", "PhiForCausalLM", "PhiConfig", "PhiForCausalLM", "phi2"),
    "phi3": Entry("phi3", "Phi3ForCausalLM", "Phi3Config", "Phi3ForCausalLM", "phi3"),
    "qwen2": Entry("llama", "LlamaForCausalLM", "Qwen2Config", "Qwen2ForCausalLM", "qwen2"),
    "qwen2_moe": Entry(
        "llama_moe", "QwenMoeForCausalLM", "Qwen2MoeConfig", "Qwen2MoeForCausalLM", "qwen2moe"
    ),
    "qwen3": Entry("llama", "LlamaForCausalLM", "Qwen3Config", "Qwen3ForCausalLM", "qwen3"),
    "qwen3_moe": Entry(
        "llama_moe", "QwenMoeForCausalLM", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", "qwen3moe"
    ),
    "roberta": Entry("roberta", "RobertaForMaskedLM", "RobertaConfig", "RobertaForMaskedLM"),
    "smollm3": Entry(
        "smollm3", "LlamaForCausalLM", "SmolLM3Config", "SmolLM3ForCausalLM", "smollm3"
    ),
    "stablelm": Entry(
        "stablelm", "StableLmForCausalLM", "StableLmConfig", "StableLmForCausalLM", "stablelm"
    ),
    "starcoder2": Entry(
        "starcoder2",
        "Starcoder2ForCausalLM",
        "Starcoder2Config",
        "Starcoder2ForCausalLM",
        "starcoder2",
    ),
    "xlm-roberta": Entry(
        "roberta", "RobertaForMaskedLM", "XLMRobertaConfig", "XLMRobertaForMaskedLM"
    ),
}

#: What `register_model` was given, which comes before `MODELS`.
_registered: dict[str, type[PretrainedModel]] = {}


def register_model(*model_types: str) -> Callable[[type[PretrainedModel]], type[PretrainedModel]]:
    """Make a `PretrainedModel` subclass the one that loads these model types; a class decorator."""

    def register(cls: type[PretrainedModel]) -> type[PretrainedModel]:
        for model_type in model_types:
            _registered[model_type] = cls
        return cls

    return register


def supported_models() -> list[str]:
    """Return the model types that can be loaded, sorted."""
    return sorted({*MODELS, *_registered})


def model_class(model_type: object, *, multimodal: bool = False) -> type[PretrainedModel]:
    """Return the class for a config.json's `model_type`.

    Args:
        multimodal: the config describes more than text, which the error then says.

    Raises:
        UnsupportedModel: there is none; the message lists those there are.
    """
    supported = supported_models()
    if model_type is None:
        raise UnsupportedModel(
            "model_type is not supported: config.json has none, which says what the model is "
            f"(supported: {', '.join(supported)})"
        )
    if not isinstance(model_type, str) or model_type not in supported:
        # Only what looks like a slip: mamba is no llama.
        near = difflib.get_close_matches(str(model_type), supported, n=1, cutoff=0.75)
        raise UnsupportedModel(
            f"model_type {model_type!r} is not supported"
            + ("; it is a model of more than text" if multimodal else "")
            + (f"; did you mean {near[0]!r}?" if near and not multimodal else "")
            + f" (supported: {', '.join(supported)})"
        )
    if model_type in _registered:
        return _registered[model_type]
    entry = MODELS[model_type]
    return imported(entry.file, entry.model)


def config_class(model_type: str) -> type[ModelConfig]:
    """Return the class of configurations for a supported `model_type`."""
    if model_type in _registered:
        return _registered[model_type].config_class
    entry = MODELS[model_type]
    return imported(entry.file, entry.config)


def architecture(model: PretrainedModel) -> str:
    """Return transformers' name of the class that a model is."""
    model_type = model.config.model_type
    if model_type in _registered or model_type not in MODELS:
        return type(model).__name__
    return MODELS[model_type].architecture


def imported(file: str, name: str) -> Any:
    """Return a class of a file in gradient.models."""
    return getattr(import_module(f"gradient.models.{file}"), name)


#: {public class: (its file, its name there)}, imported when first named. A model has the names of
#: transformers' classes that it stands for beside its own.
LATE = {
    public: (entry.file, name)
    for entry in MODELS.values()
    for public, name in (
        (entry.architecture, entry.model),
        (entry.model, entry.model),
        (entry.config, entry.config),
    )
}
