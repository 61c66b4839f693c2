"""DeepSeek-V2 and V2-Lite (DeepSeek-AI 2024, arXiv:2405.04434): latent attention and a mixture.

Keys and values of all heads are projections of one short vector per token, the latent. The cache
holds the latent and one rotated key only: instead of keys and values, the queries and the attention
outputs are projected (section 2.1.2).

Dimensions:
    B  batch    T  new tokens    C  hidden_size    H  num_attention_heads
    L  kv_lora_rank, size of the latent            R  qk_rope_head_dim, rotated columns of a key
    N  qk_nope_head_dim, its other columns         V  v_head_dim
"""

from __future__ import annotations

from typing import Any

import gradient
from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import constant, limited, positive, same_as, size
from gradient.models.llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaMLP, LlamaRMSNorm
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig
from gradient.models.llama_moe import MoeFields, QwenMoeForCausalLM
from gradient.models.moe import Router, SparseMoe
from gradient.models.rope import ApplyRotary, yarn_mscale
from gradient.tensor import Tensor

__all__ = ["DeepseekV2Config", "DeepseekV2ForCausalLM"]


class DeepseekV2Config(MoeFields, LlamaFamilyConfig):
    """The shape of a DeepSeek-V2, with the defaults of transformers' class."""

    model_type = "deepseek_v2"
    interleaved_rotary = True
    float32_rotary = True
    bias_fields = BiasFields("attention_bias", "attention_bias", "mlp_bias")
    aliases = {"num_experts": "n_routed_experts"}

    vocab_size: int = 102400
    rms_norm_eps: float = positive(1e-6)
    attention_bias: bool = False
    mlp_bias: bool = False
    q_lora_rank: int | None = size(1536)  # None: one projection makes the queries
    kv_lora_rank: int = size(512)
    qk_nope_head_dim: int = size(128)
    qk_rope_head_dim: int = size(64)
    v_head_dim: int = size(128)
    first_k_dense_replace: int = 0  # this many first layers have an MLP, no mixture
    n_routed_experts: int = size(64)
    n_shared_experts: int = size(2)
    moe_intermediate_size: int = size(1407)
    routed_scaling_factor: float = positive(1.0)
    topk_method: str | None = limited("greedy", "'greedy'", lambda value: value == "greedy")

    def to_hf(self) -> dict[str, Any]:
        heads = {"head_dim": self.qk_rope_head_dim, "num_key_value_heads": self.num_attention_heads}
        return super().to_hf() | heads

    kv_heads = constant(1)

    @property
    def head_size(self) -> int:
        """Return L + R: the numbers that the cache holds for a token."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    rotary_size = same_as("qk_rope_head_dim")

    @property
    def scale(self) -> float:
        rope = self.rope_parameters
        mscale = yarn_mscale(rope.get("factor") or 1.0, rope.get("mscale_all_dim") or 0.0)
        return (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5 * mscale**2


class DeepseekV2Attention(CausalAttention):
    """Multi-head latent attention (section 2.1)."""

    def __init__(self, config: DeepseekV2Config, layer: int) -> None:
        super().__init__(layer, scale=config.scale, dropout=config.attention_dropout)
        C, H, rank = config.hidden_size, config.num_attention_heads, config.q_lora_rank
        self.N, self.L = config.qk_nope_head_dim, config.kv_lora_rank
        self.sizes = [config.qk_nope_head_dim, config.qk_rope_head_dim]
        queries, bias = H * sum(self.sizes), config.attention_bias
        self.heads = H
        if rank is None:
            self.q_proj = nn.Linear(C, queries, bias=False)
        else:
            self.q_a_proj = nn.Linear(C, rank, bias=bias)
            self.q_a_layernorm = LlamaRMSNorm(rank, 1e-6)
            self.q_b_proj = nn.Linear(rank, queries, bias=False)
        self.q_lora = rank is not None
        self.kv_a_proj_with_mqa = nn.Linear(C, config.head_size, bias=bias)
        self.kv_a_layernorm = LlamaRMSNorm(config.kv_lora_rank, 1e-6)
        self.kv_b_proj = nn.Linear(self.L, H * (self.N + config.v_head_dim), bias=False)
        self.o_proj = nn.Linear(H * config.v_head_dim, C, bias=bias)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        H, L = self.heads, self.L
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))) if self.q_lora else self.q_proj(x)
        q_nope, q_rope = q.view(B, T, H, -1).transpose(1, 2).split(self.sizes, dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([L, self.sizes[1]], dim=-1)
        latent = self.kv_a_layernorm(latent).unsqueeze(1)  # (B, 1, T, L)
        key = gradient.cat([latent, rotate(k_rope.unsqueeze(1))], dim=-1)  # (B, 1, T, L + R)
        weight: Tensor = self.kv_b_proj.weight
        weight = weight.dequantize() if weight.dtype.is_packed else weight
        to_key, to_value = weight.view(H, -1, L).split([self.N, weight.shape[0] // H - self.N], 1)
        # q . (to_key latent) = (q to_key) . latent
        query = gradient.cat([q_nope @ to_key, rotate(q_rope)], dim=-1)  # (B, H, T, L + R)
        y = self.attend(past, query, key, key).view(B, T, H, -1)[..., :L]  # (B, T, H, L)
        y = y.transpose(1, 2) @ to_value.mT  # (B, H, T, V)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class DeepseekV2Moe(SparseMoe):
    """A mixture of experts, and shared experts that process every token (section 2.2)."""

    def __init__(self, config: DeepseekV2Config) -> None:
        C, E, I = config.hidden_size, config.n_routed_experts, config.moe_intermediate_size  # noqa: E741
        gate = Router(C, E, top_k=config.num_experts_per_tok, normalize=False)
        experts = [LlamaMLP(config, I) for _ in range(E)]
        super().__init__(gate, experts, ACTIVATIONS[config.hidden_act])
        self.factor = config.routed_scaling_factor
        self.shared_experts = LlamaMLP(config, I * config.n_shared_experts)

    def mix(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """The weighted sum of the experts, scaled by `routed_scaling_factor`."""
        return super().mix(x, weights * self.factor, experts)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return super().forward(x) + self.shared_experts(x)


class DeepseekV2DecoderLayer(LlamaDecoderLayer):
    """LLaMA's layer with latent attention and, after the first layers, a mixture of experts."""

    def __init__(self, config: DeepseekV2Config, layer: int, **parts: Any) -> None:
        mlp = LlamaMLP if layer < config.first_k_dense_replace else DeepseekV2Moe
        super().__init__(config, layer, attention=DeepseekV2Attention, mlp=mlp, **parts)


class DeepseekV2ForCausalLM(LlamaForCausalLM):
    """DeepSeek-V2 with its language-model head."""

    config_class = DeepseekV2Config
    split = QwenMoeForCausalLM.split

    def __init__(self, config: DeepseekV2Config) -> None:
        super().__init__(config, layer=DeepseekV2DecoderLayer)
