"""OLMo 2 (OLMo Team 2024, arXiv:2501.00656): LLaMA with norms behind attention and MLP.

Dimensions:
    B  batch    T  new tokens    C  hidden_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from gradient import nn
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import positive
from gradient.models.gguf import ATTENTION, DECODER, MLP, QK_NORMS, SILU, TOP, Architecture
from gradient.models.llama import LlamaAttention, LlamaForCausalLM, LlamaMLP, LlamaModel
from gradient.models.llama_config import Biases, LlamaFamilyConfig
from gradient.models.rope import ApplyRotary
from gradient.tensor import Tensor

__all__ = ["Olmo2Config", "Olmo2ForCausalLM"]


@dataclass(kw_only=True)
class Olmo2Config(LlamaFamilyConfig):
    """The shape of an OLMo 2."""

    model_type: ClassVar[str] = "olmo2"
    float32_rotary: ClassVar[bool] = True
    gguf = Architecture(
        "olmo2",
        DECODER,
        TOP,
        {name: hf for name, hf in ATTENTION.items() if name != "attn_norm"}
        | QK_NORMS
        | MLP
        | {
            "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
        fixed=SILU | {"attention_bias": False},
    )

    vocab_size: int = 50304
    rms_norm_eps: float = positive(1e-5)
    attention_bias: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)


class Olmo2Attention(LlamaAttention):
    """LLaMA's, with all heads' queries normalised together, and all keys (section 3.3.2)."""

    def __init__(self, config: Olmo2Config, layer: int) -> None:
        super().__init__(config, layer)
        self.q_norm = nn.RMSNorm(self.q_proj.out_features, config.rms_norm_eps)
        self.k_norm = nn.RMSNorm(self.k_proj.out_features, config.rms_norm_eps)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H or H_kv, T, D)
            for y in (self.q_norm(self.q_proj(x)), self.k_norm(self.k_proj(x)), self.v_proj(x))
        )
        return self.o_proj(self.attend(past, rotate(q), rotate(k), v))


class Olmo2DecoderLayer(nn.Module):
    """Attention, then the MLP; what each gives is normalised and added to the residual stream."""

    def __init__(self, config: Olmo2Config, layer: int) -> None:
        super().__init__()
        self.self_attn = Olmo2Attention(config, layer)
        self.mlp = LlamaMLP(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.post_attention_layernorm(self.self_attn(x, rotate, past))
        return x + self.post_feedforward_layernorm(self.mlp(x))


class Olmo2ForCausalLM(LlamaForCausalLM):
    """OLMo 2 with its language-model head."""

    config_class = Olmo2Config

    def __init__(self, config: Olmo2Config) -> None:
        super().__init__(config, partial(LlamaModel, layer=Olmo2DecoderLayer, norm=nn.RMSNorm))
