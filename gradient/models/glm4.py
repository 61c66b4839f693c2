"""GLM-4 0414 (GLM Team 2024, arXiv:2406.12793): LLaMA with norms on both sides of its parts."""

from __future__ import annotations

from dataclasses import field

from gradient.models.config import positive
from gradient.models.gguf import Architecture
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig, Norms

__all__ = ["Glm4Config"]


class Glm4Config(LlamaFamilyConfig):
    """The shape of a GLM-4; the defaults are the 9B model's."""

    model_type = "glm4"
    interleaved_rotary = True
    default_partial_rotary_factor = 0.5
    norms = Norms(after_attention="post_self_attn_layernorm", after_mlp="post_mlp_layernorm")
    stacked_gate = True
    bias_fields = BiasFields(qkv="attention_bias")
    gguf = Architecture("glm4")

    vocab_size: int = 151552
    intermediate_size: int = 13696
    num_hidden_layers: int = 40
    num_key_value_heads: int | None = 2
    head_dim: int | None = 128
    max_position_embeddings: int = 131072
    rms_norm_eps: float = positive(1.5625e-7)
    attention_bias: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = field(default_factory=lambda: [151329, 151336, 151338])
    pad_token_id: int | None = 151329
