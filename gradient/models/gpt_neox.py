"""GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and Pythia (Biderman et al. 2023).

Modules and config fields have the names of transformers' `GPTNeoXForCausalLM`.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    I  intermediate_size     V  vocab_size
    H  num_attention_heads, each of size D = C / H
"""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from gradient import nn
from gradient.models.activations import MLP
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import CausalLM, PastKeyValues
from gradient.models.config import activation, constant, positive, probability, same_as, size
from gradient.models.gguf import (
    CONTEXT,
    GELU,
    LAYER_NORM_EPS,
    SIZES,
    Architecture,
    Key,
    fused_block,
    top_modules,
)
from gradient.models.llama import LlamaModel
from gradient.models.rope import ApplyRotary
from gradient.models.rotary_config import RotaryConfig
from gradient.tensor import Tensor

__all__ = ["GPTNeoXConfig", "GPTNeoXForCausalLM"]


class GPTNeoXConfig(RotaryConfig):
    """The shape of a GPT-NeoX; the defaults are the 20B model's."""

    model_type = "gpt_neox"
    layer_norm_eps_field = "layer_norm_eps"
    decoder_names = ("embed_in", "layers", "final_layer_norm")
    default_partial_rotary_factor = 0.25
    gguf = Architecture(
        "gptneox",
        (
            CONTEXT,
            *SIZES,
            LAYER_NORM_EPS,
            Key("use_parallel_residual", "use_parallel_residual", True),
        ),
        top_modules("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
        fused_block("attention") | {"ffn_norm": "post_attention_layernorm"},
        layers="gpt_neox.layers",
        fixed={"hidden_act": GELU, "attention_bias": True},
        grouped=("attn_qkv",),
    )

    vocab_size: int = 50432
    hidden_size: int = 6144
    intermediate_size: int = size(24576)
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    hidden_act: str = activation("gelu")
    attention_dropout: float = probability(0.0)
    hidden_dropout: float = probability(0.0)
    layer_norm_eps: float = positive(1e-5)
    use_parallel_residual: bool = True
    attention_bias: bool = True
    bos_token_id: int | None = 0

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content, with old names of rotary options."""
        old = {"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}
        return super().from_hf({old.get(key, key): value for key, value in values.items()})

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, with the keys for old readers."""
        rope = self.rope_parameters
        old = {"rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": rope["rope_theta"]}
        return super().to_hf() | old

    padding_idx = constant(None)
    embedding_dropout = same_as("hidden_dropout")


class GPTNeoXAttention(CausalAttention):
    """Causal self-attention; one matrix holds query, key and value of each head in turn."""

    def __init__(self, config: GPTNeoXConfig, layer: int) -> None:
        super().__init__(layer, dropout=config.attention_dropout)
        C = config.hidden_size
        self.head_dim = config.head_size
        self.query_key_value = nn.Linear(C, 3 * C, bias=config.attention_bias)
        self.dense = nn.Linear(C, C, bias=config.attention_bias)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        heads = self.query_key_value(x).view(B, T, -1, 3 * self.head_dim).transpose(1, 2)
        q, k, v = heads.chunk(3, dim=-1)  # each (B, H, T, D)
        return self.dense(self.attend(past, rotate(q), rotate(k), v))


class GPTNeoXLayer(nn.Module):
    """Attention and MLP, each with its own norm, in parallel or in sequence."""

    def __init__(self, config: GPTNeoXConfig, layer: int, norm: type[nn.LayerNorm]) -> None:
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.parallel = config.use_parallel_residual
        self.input_layernorm = norm(C, eps)
        self.post_attention_layernorm = norm(C, eps)
        self.attention = GPTNeoXAttention(config, layer)
        names = "dense_h_to_4h", "dense_4h_to_h"
        self.mlp = MLP(C, config.intermediate_size, config.hidden_act, names)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        attended = x + self.dropout(self.attention(self.input_layernorm(x), rotate, past))
        read = x if self.parallel else attended
        return attended + self.dropout(self.mlp(self.post_attention_layernorm(read)))


class GPTNeoXForCausalLM(CausalLM):
    """GPT-NeoX with its language-model head, which its files call embed_out."""

    config_class = GPTNeoXConfig
    base_model_prefix = "gpt_neox"
    head_name = "embed_out"
    renamed = {r"^lm_head\.": "embed_out."}  # transformers 5, in memory
    ignored = (r"\.attention\.(bias|masked_bias)$", r"\.rotary_emb\.inv_freq$")
    tied = {"embed_out.weight": "gpt_neox.embed_in.weight"}

    def __init__(self, config: GPTNeoXConfig) -> None:
        super().__init__(config, partial(LlamaModel, layer=GPTNeoXLayer))
