"""OPT (Zhang et al. 2022, arXiv:2205.01068).

Modules and config fields have the names of transformers' `OPTForCausalLM`.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    E  word_embed_proj_dim   V  vocab_size
    H  num_attention_heads, each of size D = C / H
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.attention import ProjectedAttention
from gradient.models.causal_lm import CausalLM, PastKeyValues
from gradient.models.config import DecoderConfig, activation, probability, size
from gradient.tensor import Tensor

__all__ = ["OPTConfig", "OPTForCausalLM"]

FIRST_POSITION = 2  # rows of the position embedding before it are never used


class OPTConfig(DecoderConfig):
    """The shape of an OPT; the defaults are the 125M model's."""

    model_type = "opt"
    aliases = {
        "init_std": "initializer_range",
        "intermediate_size": "ffn_dim",
        "hidden_act": "activation_function",
    }

    vocab_size: int = size(50272)
    hidden_size: int = size(768)
    num_hidden_layers: int = size(12)
    num_attention_heads: int = size(12)
    ffn_dim: int = size(3072)
    max_position_embeddings: int = size(2048)
    word_embed_proj_dim: int | None = size(None)  # None: hidden_size
    activation_function: str = activation("relu")
    do_layer_norm_before: bool = True  # False, in OPT-350M: norms after attention and MLP
    _remove_final_layer_norm: bool = False
    layer_norm_elementwise_affine: bool = True
    enable_bias: bool = True
    dropout: float = probability(0.1)
    attention_dropout: float = probability(0.0)
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 1

    def to_hf(self) -> dict[str, Any]:
        return super().to_hf() | {"init_std": self.initializer_range}

    @property
    def embedding_size(self) -> int:
        """Return E."""
        return self.word_embed_proj_dim or self.hidden_size


def layer_norm(config: OPTConfig) -> nn.LayerNorm:
    """A layer norm over C."""
    return nn.LayerNorm(config.hidden_size, elementwise_affine=config.layer_norm_elementwise_affine)


class OPTAttention(ProjectedAttention):
    """Causal self-attention, with a bias in every projection or in none."""

    def __init__(self, config: OPTConfig, layer: int) -> None:
        bias, dropout = config.enable_bias, config.attention_dropout
        super().__init__(config, layer, bias=bias, out_bias=bias, dropout=dropout)


class OPTDecoderLayer(nn.Module):
    """Attention and MLP, each with a residual connection and a norm before or after it."""

    def __init__(self, config: OPTConfig, layer: int) -> None:
        super().__init__()
        C, bias = config.hidden_size, config.enable_bias
        self.norm_first = config.do_layer_norm_before
        self.self_attn = OPTAttention(config, layer)
        self.self_attn_layer_norm = layer_norm(config)
        self.fc1 = nn.Linear(C, config.ffn_dim, bias=bias)
        self.fc2 = nn.Linear(config.ffn_dim, C, bias=bias)
        self.final_layer_norm = layer_norm(config)
        self.act = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if self.norm_first:
            x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), past))
            return x + self.dropout(self.mlp(self.final_layer_norm(x)))
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, past)))
        return self.final_layer_norm(x + self.dropout(self.mlp(x)))

    def mlp(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.fc2(self.act(self.fc1(x)))


class OPTDecoder(nn.Module):
    """Token and position embeddings, the layers, and a last norm: token ids to hidden states."""

    def __init__(self, config: OPTConfig) -> None:
        super().__init__()
        C, E = config.hidden_size, config.embedding_size
        positions, layers = config.max_position_embeddings, range(config.num_hidden_layers)
        normed = config.do_layer_norm_before and not config._remove_final_layer_norm
        self.embed_tokens = nn.Embedding(config.vocab_size, E, config.padding_idx)
        self.embed_positions = nn.Embedding(positions + FIRST_POSITION, C)
        self.project_in = nn.Linear(E, C, bias=False) if E != C else nn.Identity()
        self.layers = nn.ModuleList([OPTDecoderLayer(config, layer) for layer in layers])
        self.final_layer_norm = layer_norm(config) if normed else nn.Identity()
        self.project_out = nn.Linear(C, E, bias=False) if E != C else nn.Identity()

    def forward(self, input_ids: Tensor, positions: Tensor, past: PastKeyValues | None) -> Tensor:
        """Token ids (B, T) and their positions -> (B, T, E)."""
        x = self.project_in(self.embed_tokens(input_ids))  # (B, T, C)
        x = x + self.embed_positions(positions + FIRST_POSITION)
        for layer in self.layers:
            x = layer(x, past)
        return self.project_out(self.final_layer_norm(x))


class OPTModel(nn.Module):
    """The decoder, as `model.decoder` in checkpoints."""

    def __init__(self, config: OPTConfig) -> None:
        super().__init__()
        self.decoder = OPTDecoder(config)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        past: PastKeyValues | None,
        lengths: Sequence[int] | None,
    ) -> Tensor:
        """Token ids (B, T) and their positions -> (B, T, E); see `CausalLM`."""
        return self.decoder(input_ids, positions, past)


class OPTForCausalLM(CausalLM):
    """OPT with its language-model head, whose matrix is the token embedding unless untied."""

    config_class = OPTConfig
    tied = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: OPTConfig) -> None:
        super().__init__(config, OPTModel)

    @property
    def context_length(self) -> int:
        """Return max_position_embeddings: beyond it there are no position embeddings."""
        return self.config.max_position_embeddings
