"""GLM-4 0414 (GLM Team 2024, arXiv:2406.12793): LLaMA with norms on both sides of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import positive
from gradient.models.gguf import ATTENTION, DECODER, SILU, TOP, Architecture
from gradient.models.llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel, LlamaRMSNorm
from gradient.models.llama_config import Biases, LlamaFamilyConfig
from gradient.models.phi3 import Phi3MLP
from gradient.models.rope import ApplyRotary
from gradient.tensor import Tensor

__all__ = ["Glm4Config", "Glm4ForCausalLM"]


@dataclass(kw_only=True)
class Glm4Config(LlamaFamilyConfig):
    """The shape of a GLM-4; the defaults are the 9B model's."""

    model_type: ClassVar[str] = "glm4"
    interleaved_rotary: ClassVar[bool] = True
    default_partial_rotary_factor: ClassVar[float] = 0.5
    gguf = Architecture(
        "glm4",
        DECODER,
        TOP,
        ATTENTION
        | {
            "post_attention_norm": "post_self_attn_layernorm",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
            "post_ffw_norm": "post_mlp_layernorm",
        },
        fixed=SILU,
        bias="attention_bias",
    )

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

    @property
    def biases(self) -> Biases:
        return Biases(qkv=self.attention_bias)


class Glm4DecoderLayer(LlamaDecoderLayer):
    """LLaMA's, with what attention and MLP give normalised before it is added."""

    def __init__(self, config: Glm4Config, layer: int) -> None:
        super().__init__(config, layer, mlp=Phi3MLP)
        self.post_self_attn_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_mlp_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        y = self.self_attn(self.input_layernorm(x), rotate, past)
        x = x + self.post_self_attn_layernorm(y)
        return x + self.post_mlp_layernorm(self.mlp(self.post_attention_layernorm(x)))


class Glm4ForCausalLM(LlamaForCausalLM):
    """GLM-4 with its language-model head."""

    config_class = Glm4Config

    def __init__(self, config: Glm4Config) -> None:
        super().__init__(config, partial(LlamaModel, layer=Glm4DecoderLayer))
