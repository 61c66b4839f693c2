"""StableLM 2 and 3B (Bellagente et al. 2024, arXiv:2402.17834): LLaMA with LayerNorm.

A part of each head is rotated; attention and MLP may stand side by side on one norm.

Dimensions:
    B  batch    T  new tokens    C  hidden_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import gradient
from gradient import nn
from gradient.models.config import positive, probability, same_as
from gradient.models.gguf import PLAIN, SILU, Key, decoder_keys
from gradient.models.llama import LlamaAttention, LlamaForCausalLM
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig, Norms
from gradient.tensor import Tensor

__all__ = ["StableLmConfig", "StableLmForCausalLM"]


class StableLmConfig(LlamaFamilyConfig):
    """The shape of a StableLM; the defaults are the 3B model's."""

    model_type = "stablelm"
    layer_norms = True
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

    residual_dropout = same_as("hidden_dropout")
    parallel = same_as("use_parallel_residual")

    @property
    def qk_norm(self) -> str:
        return "all" if self.qk_layernorm else ""

    @property
    def norms(self) -> Norms:
        return Norms(before_mlp="") if self.use_parallel_residual else Norms()


class StableLmLayerNormPerHead(nn.Module):
    """LayerNorm over each head, with weights of its own: (B, T, heads * D) -> the same."""

    def __init__(self, D: int, width: int, eps: float) -> None:
        super().__init__()
        norms = (nn.LayerNorm(D, eps, bias=False) for _ in range(width // D))
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor) -> Tensor:
        heads = x.chunk(len(self.norms), dim=-1)  # each (B, T, D)
        return gradient.cat([norm(y) for norm, y in zip(self.norms, heads, strict=True)], dim=-1)


class StableLmAttention(LlamaAttention):
    """LLaMA's, with norms of queries and keys that have other names."""

    norm_names = ("q_layernorm", "k_layernorm")

    def __init__(self, config: StableLmConfig, layer: int) -> None:
        super().__init__(config, layer, partial(StableLmLayerNormPerHead, config.head_size))


class StableLmForCausalLM(LlamaForCausalLM):
    """StableLM with its language-model head."""

    config_class = StableLmConfig

    def __init__(self, config: StableLmConfig) -> None:
        super().__init__(config, attention=StableLmAttention)
