"""Phi-3 and Phi-4 (Abdin et al. 2024, arXiv:2404.14219): LLaMA with fused projections, LongRoPE.

Dimensions:
    B  batch    T  new tokens    C  hidden_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradient import nn
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import positive, probability, same_as, size
from gradient.models.gguf import GATE_UP, LLAMA_LIKE, WINDOW, Key, decoder_keys
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import LlamaFamilyConfig, Norms
from gradient.models.rope import ApplyRotary
from gradient.tensor import Tensor

__all__ = ["Phi3Config", "Phi3ForCausalLM"]


class Phi3Config(LlamaFamilyConfig):
    """The shape of a Phi-3; the defaults are Phi-3-mini's."""

    model_type = "phi3"
    gguf = replace(
        LLAMA_LIKE,
        name="phi3",
        keys=decoder_keys(
            "rms_norm_eps",
            WINDOW,
            Key(
                "rope.scaling.original_context_length",
                "original_max_position_embeddings",
                lambda values: values["max_position_embeddings"],
            ),
        ),
        block=Norms().gguf
        | GATE_UP
        | {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj"},
        one_window=True,
    )
    stacked_gate = True
    default_partial_rotary_factor = 1.0
    recomputes_when_angles_change = True

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    rms_norm_eps: float = positive(1e-5)
    resid_pdrop: float = probability(0.0)
    sliding_window: int | None = size(None)
    eos_token_id: int | list[int] | None = 32000
    pad_token_id: int | None = 32000

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return rope parameters; "yarn" in the first Phi-3s means LongRoPE."""
        if "yarn" in (parameters.get("rope_type"), parameters.get("type")):
            parameters = parameters | {"rope_type": "longrope"}
        return super().settled_rope(parameters)

    original_context = same_as("original_max_position_embeddings")
    residual_dropout = same_as("resid_pdrop")


class Phi3Attention(CausalAttention):
    """LLaMA's attention, with queries, keys and values from one stacked matrix."""

    def __init__(self, config: Phi3Config, layer: int) -> None:
        super().__init__(layer, window=config.windows[layer], dropout=config.attention_dropout)
        C, D = config.hidden_size, config.head_size
        self.head_dim = D
        self.sizes = [config.num_attention_heads * D, config.kv_heads * D, config.kv_heads * D]
        self.qkv_proj = nn.Linear(C, sum(self.sizes), bias=False)
        self.o_proj = nn.Linear(self.sizes[0], C, bias=False)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H or H_kv, T, D)
            for y in self.qkv_proj(x).split(self.sizes, dim=-1)
        )
        return self.o_proj(self.attend(past, rotate(q), rotate(k), v))


class Phi3ForCausalLM(LlamaForCausalLM):
    """Phi-3 with its language-model head; see `LlamaForCausalLM`."""

    config_class = Phi3Config

    def __init__(self, config: Phi3Config) -> None:
        super().__init__(config, attention=Phi3Attention)
