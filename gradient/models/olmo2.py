"""OLMo 2 (OLMo Team 2024, arXiv:2501.00656): LLaMA with norms behind attention and MLP.

All heads' queries are normalised together, and all keys (section 3.3.2).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gradient import nn
from gradient.models.config import positive
from gradient.models.gguf import LLAMA_LIKE, MLP, QK_NORMS, QKVO, SILU
from gradient.models.llama import LlamaAttention, LlamaForCausalLM
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig, Norms

__all__ = ["Olmo2Config", "Olmo2ForCausalLM"]


class Olmo2Config(LlamaFamilyConfig):
    """The shape of an OLMo 2."""

    model_type = "olmo2"
    float32_rotary = True
    qk_norm = "all"
    norms = Norms("", "post_attention_layernorm", "", "post_feedforward_layernorm")
    bias_fields = BiasFields("attention_bias", "attention_bias")
    gguf = replace(
        LLAMA_LIKE,
        name="olmo2",
        block=QKVO | QK_NORMS | MLP | norms.gguf,
        fixed=SILU | {"attention_bias": False},
    )

    vocab_size: int = 50304
    rms_norm_eps: float = positive(1e-5)
    attention_bias: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279


class Olmo2ForCausalLM(LlamaForCausalLM):
    """OLMo 2 with its language-model head."""

    config_class = Olmo2Config

    def __init__(self, config: Olmo2Config) -> None:
        attention = partial(LlamaAttention, norm=nn.RMSNorm)
        super().__init__(config, attention=attention, norm=nn.RMSNorm)
