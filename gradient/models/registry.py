"""Which class builds which `model_type` of config.json.

A model file is imported when its first model is loaded. To add a family: write its file, add a row
here; or, outside the package, decorate the class with `register_model`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module

from gradient.errors import UnsupportedModel
from gradient.models.pretrained import PretrainedModel

#: model_type -> (module in gradient.models, class), or the class itself.
_MODELS: dict[str, tuple[str, str] | type[PretrainedModel]] = {
    "bert": ("bert", "BertForMaskedLM"),
    "distilbert": ("distilbert", "DistilBertForMaskedLM"),
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("llama", "MistralForCausalLM"),
    "qwen2": ("llama", "Qwen2ForCausalLM"),
    "qwen3": ("llama", "Qwen3ForCausalLM"),
    "phi3": ("llama", "Phi3ForCausalLM"),
    "ernie4_5": ("llama", "Ernie4_5ForCausalLM"),
    "gemma": ("gemma", "GemmaForCausalLM"),
    "gemma2": ("gemma", "Gemma2ForCausalLM"),
    "gemma3": ("gemma", "Gemma3ForCausalLM"),
    "gemma3_text": ("gemma", "Gemma3ForCausalLM"),
    "phi": ("phi", "PhiForCausalLM"),
    "mixtral": ("llama_moe", "MixtralForCausalLM"),
    "qwen2_moe": ("llama_moe", "Qwen2MoeForCausalLM"),
    "qwen3_moe": ("llama_moe", "Qwen3MoeForCausalLM"),
    "roberta": ("roberta", "RobertaForMaskedLM"),
    "xlm-roberta": ("roberta", "XLMRobertaForMaskedLM"),
}


def register_model(*model_types: str) -> Callable[[type[PretrainedModel]], type[PretrainedModel]]:
    """Make a `PretrainedModel` subclass the one that loads these model types; a class decorator."""

    def register(cls: type[PretrainedModel]) -> type[PretrainedModel]:
        for model_type in model_types:
            _MODELS[model_type] = cls
        return cls

    return register


def supported_models() -> list[str]:
    """Return the model types that can be loaded, sorted."""
    return sorted(_MODELS)


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
    if not isinstance(model_type, str) or model_type not in _MODELS:
        # Only what looks like a slip: mamba is no llama.
        near = difflib.get_close_matches(str(model_type), supported, n=1, cutoff=0.75)
        raise UnsupportedModel(
            f"model_type {model_type!r} is not supported"
            + ("; it is a model of more than text" if multimodal else "")
            + (f"; did you mean {near[0]!r}?" if near and not multimodal else "")
            + f" (supported: {', '.join(supported)})"
        )
    entry = _MODELS[model_type]
    if isinstance(entry, tuple):
        module, name = entry
        entry = getattr(import_module(f"gradient.models.{module}"), name)
    return entry
