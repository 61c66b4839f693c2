"""Every family of models: its classes, and its names in other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # for type checkers: `gradient.models` imports these classes when first named
    from gradient.models.arcee import *
    from gradient.models.bert import *
    from gradient.models.deepseek_v2 import *
    from gradient.models.distilbert import *
    from gradient.models.falcon import *
    from gradient.models.gemma import *
    from gradient.models.glm4 import *
    from gradient.models.gpt2 import *
    from gradient.models.gpt_neo import *
    from gradient.models.gpt_neox import *
    from gradient.models.granite import *
    from gradient.models.llama import *
    from gradient.models.llama_moe import *
    from gradient.models.olmo2 import *
    from gradient.models.opt import *
    from gradient.models.phi import *
    from gradient.models.phi3 import *
    from gradient.models.roberta import *
    from gradient.models.smollm3 import *
    from gradient.models.stablelm import *
    from gradient.models.starcoder2 import *


class Entry(NamedTuple):
    """The classes of one model type.

    Attributes:
        model, config: "<file in gradient.models>.<name>".
        architecture: transformers' name of the model's class, as in config.json's `architectures`.
        gguf: llama.cpp's name of the architecture, as in a file's `general.architecture`, if the
            config supports GGUF (`ModelConfig.gguf`). If several types share one name, the first
            reads it.
    """

    model: str
    config: str
    architecture: str
    gguf: str = ""


def _row(
    file: str, name: str, gguf: str = "", *, model: str = "", head: str = "ForCausalLM"
) -> Entry:
    """Return an entry: transformers calls the config <name>Config, the model <name><head>.

    Args:
        model: our class, if it is of another family or has another name.
    """
    return Entry(model or f"{file}.{name}{head}", f"{file}.{name}Config", name + head, gguf)


_ROBERTA = "roberta.RobertaForMaskedLM"
_LLAMA, _QWEN_MOE = "llama.LlamaForCausalLM", "llama_moe.QwenMoeForCausalLM"
MODELS: dict[str, Entry] = {
    "arcee": _row("arcee", "Arcee", "arcee", model=_LLAMA),
    "bert": _row("bert", "Bert", "bert", head="ForMaskedLM"),
    "deepseek_v2": _row("deepseek_v2", "DeepseekV2"),
    "distilbert": _row("distilbert", "DistilBert", head="ForMaskedLM"),
    "ernie4_5": _row("llama", "Ernie4_5", "ernie4_5", model=_LLAMA),
    "falcon": _row("falcon", "Falcon", "falcon"),
    "gemma": _row("gemma", "Gemma", "gemma"),
    "gemma2": _row("gemma", "Gemma2", "gemma2", model="gemma.GemmaForCausalLM"),
    "gemma3": _row("gemma", "Gemma3", "gemma3"),
    "gemma3_text": _row("gemma", "Gemma3", "gemma3"),
    "glm4": _row("glm4", "Glm4", "glm4", model=_LLAMA),
    "gpt2": _row("gpt2", "GPT2", "gpt2", head="LMHeadModel"),
    "gpt_neo": _row("gpt_neo", "GPTNeo"),
    "gpt_neox": _row("gpt_neox", "GPTNeoX", "gptneox"),
    "granite": _row("granite", "Granite", "granite", model=_LLAMA),
    "llama": _row("llama", "Llama", "llama"),
    "mistral": _row("llama", "Mistral", "llama", model=_LLAMA),
    "mixtral": _row("llama_moe", "Mixtral", "llama"),
    "olmo2": _row("olmo2", "Olmo2", "olmo2", model=_LLAMA),
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
