"""StableLM 2 and 3B (Bellagente et al. 2024, arXiv:2402.17834): LLaMA with LayerNorm.

A part of each head is rotated; attention and MLP may stand side by side on one norm.

Dimensions:
    B  batch    T  new tokens    C  hidden_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D
"""

from __future__ import annotations

from dataclasses import replace

import gradient
from gradient import nn
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import positive, probability
from gradient.models.gguf import PLAIN, SILU, Key, decoder_keys
from gradient.models.llama import LlamaAttention, LlamaForCausalLM, LlamaMLP
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig
from gradient.models.rope import ApplyRotary
from gradient.tensor import Tensor

__all__ = ["StableLmConfig", "StableLmForCausalLM"]


class StableLmConfig(LlamaFamilyConfig):
    """The shape of a StableLM; the defaults are the 3B model's."""

    model_type = "stablelm"
    norm_eps_field = "layer_norm_eps"
    default_partial_rotary_factor = 0.25
    bias_fields = BiasFields(qkv="use_qkv_bias")
    gguf = replace(
        PLAIN,
        name="stablelm",
        keys=decoder_keys(
            "layer_norm_eps", Key("use_parallel_residual", "use_parallel_residual", False)
        ),
        fixed=SILU | {"qk_layernorm": False},
    )

    vocab_size: int = 50304
    hidden_size: int = 2560
    intermediate_size: int = 6912
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 4096
    layer_norm_eps: float = positive(1e-5)
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    hidden_dropout: float = probability(0.0)
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0


class StableLmLayerNormPerHead(nn.Module):
    """LayerNorm over each head, with weights of its own: (B, T, heads, D) -> the same."""

    def __init__(self, D: int, heads: int, eps: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(D, eps, bias=False) for _ in range(heads)])

    def forward(self, x: Tensor) -> Tensor:
        normed = (norm(x[:, :, head]) for head, norm in enumerate(self.norms))
        return gradient.stack(list(normed), dim=2)


class StableLmAttention(LlamaAttention):
    """LLaMA's, with queries and keys normalised where the config says so."""

    def __init__(self, config: StableLmConfig, layer: int) -> None:
        super().__init__(config, layer)
        normed, D, eps = config.qk_layernorm, config.head_size, config.layer_norm_eps
        H, H_kv = config.num_attention_heads, config.kv_heads
        self.q_layernorm = StableLmLayerNormPerHead(D, H, eps) if normed else nn.Identity()
        self.k_layernorm = StableLmLayerNormPerHead(D, H_kv, eps) if normed else nn.Identity()

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (
            project(x).view(B, T, -1, self.head_dim)  # (B, T, H or H_kv, D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q = rotate(self.q_layernorm(q).transpose(1, 2))  # (B, H, T, D)
        k = rotate(self.k_layernorm(k).transpose(1, 2))  # (B, H_kv, T, D)
        return self.o_proj(self.attend(past, q, k, v.transpose(1, 2)))


class StableLmDecoderLayer(nn.Module):
    """Attention and MLP, one after the other on norms of their own or side by side on one."""

    def __init__(self, config: StableLmConfig, layer: int, norm: type[nn.LayerNorm]) -> None:
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.parallel = config.use_parallel_residual
        self.self_attn = StableLmAttention(config, layer)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = norm(C, eps)
        self.post_attention_layernorm = nn.Identity() if self.parallel else norm(C, eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        y = self.input_layernorm(x)
        x = x + self.self_attn(y, rotate, past)
        return x + self.dropout(self.mlp(y if self.parallel else self.post_attention_layernorm(x)))


class StableLmForCausalLM(LlamaForCausalLM):
    """StableLM with its language-model head."""

    config_class = StableLmConfig

    def __init__(self, config: StableLmConfig) -> None:
        super().__init__(config, layer=StableLmDecoderLayer, norm=nn.LayerNorm)
