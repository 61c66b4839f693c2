"""Falcon (Almazrouei et al. 2023, arXiv:2311.16867), with rotary positions.

Modules and config fields have the names of transformers' `FalconForCausalLM`.

Dimensions:
    B  batch    T  new tokens    C  hidden_size
    H  num_attention_heads, H_kv of key-value heads (kv_heads), each of size D = C / H
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gradient import nn
from gradient.models.activations import MLP
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import CausalLM, PastKeyValues
from gradient.models.config import activation, constant, false, positive, probability, size
from gradient.models.gguf import CONTEXT, GELU, Architecture, Key, fused_block, sizes, top_modules
from gradient.models.llama import LlamaModel
from gradient.models.rope import ApplyRotary
from gradient.models.rotary_config import RotaryConfig
from gradient.tensor import Tensor

__all__ = ["FalconConfig", "FalconForCausalLM"]


class FalconConfig(RotaryConfig):
    """The shape of a Falcon; the defaults are the 7B model's."""

    model_type = "falcon"
    layer_norm_eps_field = "layer_norm_epsilon"
    decoder_names = ("word_embeddings", "h", "ln_f")
    gguf = Architecture(
        "falcon",
        (
            CONTEXT,
            *sizes("ffn_hidden_size"),
            Key("attention.head_count_kv", "num_kv_heads", 1),
            Key("attention.layer_norm_epsilon", "layer_norm_epsilon"),
        ),
        top_modules("transformer.word_embeddings", "transformer.ln_f"),
        fused_block("self_attention"),
        layers="transformer.h",
        fixed={"activation": GELU, "new_decoder_architecture": False, "parallel_attn": True}
        | {"bias": False},
        grouped=("attn_qkv",),
        constants={"tensor_data_layout": "jploski"},  # the order of queries, keys and values
        read=lambda values, *_: values.update(multi_query=values["num_kv_heads"] == 1),
    )
    aliases = {
        "n_embed": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "n_head_kv": "num_kv_heads",
    }

    vocab_size: int = 65024
    hidden_size: int = 4544
    num_hidden_layers: int = 32
    num_attention_heads: int = 71
    num_kv_heads: int | None = size(None)  # None: num_attention_heads
    ffn_hidden_size: int | None = size(None)  # None: 4 * hidden_size
    activation: str | None = activation("gelu")
    layer_norm_epsilon: float = positive(1e-5)
    hidden_dropout: float = probability(0.0)
    attention_dropout: float = probability(0.0)
    alibi: bool = false("only Falcons with rotary positions are supported")
    bias: bool = False
    new_decoder_architecture: bool = False  # Falcon-40B's and later
    multi_query: bool = True  # one key-value head, in the old architecture
    parallel_attn: bool = True
    num_ln_in_parallel_attn: int | None = None
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 11
    eos_token_id: int | list[int] | None = 11

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, with explicit sizes."""
        inner = self.ffn_hidden_size or 4 * self.hidden_size
        return super().to_hf() | {"num_kv_heads": self.kv_heads, "ffn_hidden_size": inner}

    padding_idx = constant(None)

    @property
    def kv_heads(self) -> int:
        if self.multi_query and not self.new_decoder_architecture:
            return 1
        return self.num_kv_heads or self.num_attention_heads

    @property
    def parallel(self) -> bool:
        """Return whether attention and MLP both read the layer's input."""
        return self.new_decoder_architecture or self.parallel_attn

    @property
    def norms(self) -> tuple[str, ...]:
        """Return the checkpoint's name of attention's norm, and of the MLP's if it has its own."""
        if self.new_decoder_architecture and self.num_ln_in_parallel_attn in (None, 2):
            return "ln_attn", "ln_mlp"
        return ("input_layernorm", "post_attention_layernorm")[: 1 if self.parallel else 2]


class FalconAttention(CausalAttention):
    """Causal self-attention; one projection gives groups of queries with their key and value."""

    def __init__(self, config: FalconConfig, layer: int) -> None:
        super().__init__(layer)
        C, D = config.hidden_size, config.head_size
        self.head_dim, self.kv_heads = D, config.kv_heads
        self.query_key_value = nn.Linear(C, C + 2 * config.kv_heads * D, bias=config.bias)
        self.dense = nn.Linear(C, C, bias=config.bias)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        groups = self.query_key_value(x).view(B, T, self.kv_heads, -1, self.head_dim)
        q = groups[:, :, :, :-2].flatten(2, 3).transpose(1, 2)  # (B, H, T, D)
        k = groups[:, :, :, -2].transpose(1, 2)  # (B, H_kv, T, D)
        v = groups[:, :, :, -1].transpose(1, 2)  # (B, H_kv, T, D)
        return self.dense(self.attend(past, rotate(q), rotate(k), v))


class FalconDecoderLayer(nn.Module):
    """Attention and MLP, in parallel (after one norm, or one each) or in sequence."""

    def __init__(self, config: FalconConfig, layer: int, norm: type[nn.LayerNorm]) -> None:
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_epsilon
        self.parallel, self.norms = config.parallel, config.norms
        for name in config.norms:
            self.add_module(name, norm(C, eps))
        self.self_attention = FalconAttention(config, layer)
        inner, act = config.ffn_hidden_size or 4 * C, config.activation or "gelu"
        self.mlp = MLP(C, inner, act, ("dense_h_to_4h", "dense_4h_to_h"), bias=config.bias)
        self.attention_dropout = nn.Dropout(config.attention_dropout)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        first, last = (getattr(self, self.norms[at]) for at in (0, -1))
        read = first(x)
        y = self.self_attention(read, rotate, past)
        if self.parallel:
            read = read if first is last else last(x)
            return x + self.hidden_dropout(y + self.mlp(read))
        x = x + self.attention_dropout(y)
        return x + self.hidden_dropout(self.mlp(last(x)))


class FalconForCausalLM(CausalLM):
    """Falcon with its language-model head, whose matrix is the token embedding unless untied."""

    config_class = FalconConfig
    base_model_prefix = "transformer"
    tied = {"lm_head.weight": "transformer.word_embeddings.weight"}

    def __init__(self, config: FalconConfig) -> None:
        super().__init__(config, partial(LlamaModel, layer=FalconDecoderLayer))
