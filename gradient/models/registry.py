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

if TYPE_CHECKING:
    from gradient.models.config import ModelConfig
    from gradient.models.pretrained import PretrainedModel

__all__ = ["config_class", "model_class", "register_model", "supported_models"]


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


def _row(
    file: str, name: str, gguf: str = "", *, model: str = "", head: str = "ForCausalLM"
) -> Entry:
    """Return an entry: transformers calls the config <name>Config, the model <name><head>.

    Args:
        model: our class, if its name is not transformers'.
    """
    return Entry(file, model or name + head, name + "Config", name + head, gguf)


_LLAMA, _QWEN_MOE, _ROBERTA = "LlamaForCausalLM", "QwenMoeForCausalLM", "RobertaForMaskedLM"
MODELS: dict[str, Entry] = {
    "bert": _row("bert", "Bert", "bert", head="ForMaskedLM"),
    "deepseek_v2": _row("deepseek_v2", "DeepseekV2"),
    "distilbert": _row("distilbert", "DistilBert", head="ForMaskedLM"),
    "ernie4_5": _row("llama", "Ernie4_5", "ernie4_5", model=_LLAMA),
    "falcon": _row("falcon", "Falcon", "falcon"),
    "gemma": _row("gemma", "Gemma", "gemma"),
    "gemma2": _row("gemma", "Gemma2", "gemma2", model="GemmaForCausalLM"),
    "gemma3": _row("gemma", "Gemma3", "gemma3"),
    "gemma3_text": _row("gemma", "Gemma3", "gemma3"),
    "glm4": _row("glm4", "Glm4", "glm4"),
    "gpt2": _row("gpt2", "GPT2", "gpt2", head="LMHeadModel"),
    "gpt_neo": _row("gpt_neo", "GPTNeo"),
    "gpt_neox": _row("gpt_neox", "GPTNeoX", "gptneox"),
    "granite": _row("granite", "Granite", "granite", model=_LLAMA),
    "llama": _row("llama", "Llama", "llama"),
    "mistral": _row("llama", "Mistral", "llama", model=_LLAMA),
    "mixtral": _row("llama_moe", "Mixtral", "llama"),
    "olmo2": _row("olmo2", "Olmo2", "olmo2"),
    "opt": _row("opt", "OPT"),
    "phi": _row("phi", "Phi", "phi2", model=_LLAMA),
    "phi3": _row("phi3", "Phi3", "phi3"),
    "qwen2": _row("llama", "Qwen2", "qwen2", model=_LLAMA),
    "qwen2_moe": _row("llama_moe", "Qwen2Moe", "qwen2moe", model=_QWEN_MOE),
    "qwen3": _row("llama", "Qwen3", "qwen3", model=_LLAMA),
    "qwen3_moe": _row("llama_moe", "Qwen3Moe", "qwen3moe", model=_QWEN_MOE),
    "roberta": _row("roberta", "Roberta", head="ForMaskedLM"),
    "smollm3": _row("smollm3", "SmolLM3", "smollm3", model=_LLAMA),
    "stablelm": _row("stablelm", "StableLm", "stablelm", model=_LLAMA),
    "starcoder2": _row("starcoder2", "Starcoder2", "starcoder2", model=_LLAMA),
    "xlm-roberta": _row("roberta", "XLMRoberta", model=_ROBERTA, head="ForMaskedLM"),
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
