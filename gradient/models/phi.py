"""Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al. 2023, arXiv:2306.11644; Li et al. 2023).

Modules and config fields have the names of transformers' `PhiForCausalLM`. The decoder is GPT-J's:
attention and MLP read one norm side by side, and rotary positions turn a part of each head.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    I  intermediate_size     V  vocab_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gradient
from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.attention import attend
from gradient.models.causal_lm import Cache, PastKeyValues
from gradient.models.config import must_be
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import LlamaFamilyConfig
from gradient.models.rope import Rotation, rotary_dim, rotary_embedding
from gradient.tensor import Tensor


@dataclass(kw_only=True)
class PhiConfig(LlamaFamilyConfig):
    """The shape of a Phi; the defaults are Phi-1's."""

    model_type: ClassVar[str] = "phi"
    partial_rotary: ClassVar[bool] = True

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = 1e-5
    qk_layernorm: bool = False
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return rope parameters with nothing left to defaults: half of each head is turned."""
        return {"partial_rotary_factor": 0.5, **super().settled_rope(parameters)}

    def rotary_problems(self) -> list[str]:
        """Return what is wrong with the settled rope parameters; here no odd column is turned."""
        found = super().rotary_problems()
        if not found and (dim := rotary_dim(self.rope_parameters, self.head_size)) % 2:
            found = [
                f"partial_rotary_factor must make an even number of head_dim = {self.head_size}, "
                f"got {dim} columns to turn"
            ]
        return found

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content."""
        values = super().to_hf()
        del values["rms_norm_eps"]  # the family's; the norms here have layer_norm_eps
        return values

    def problems(self) -> list[str]:
        """Return what is wrong with the values, one sentence each."""
        found = super().problems()
        if found:
            return found
        found += must_be("positive", lambda value: value > 0, layer_norm_eps=self.layer_norm_eps)
        return found + must_be(
            "a probability below 1",
            lambda value: 0 <= value < 1,
            resid_pdrop=self.resid_pdrop,
            embd_pdrop=self.embd_pdrop,
        )


class PhiAttention(nn.Module):
    """Causal self-attention, with grouped key-value heads where the config has fewer of them."""

    def __init__(self, config: PhiConfig, layer: int) -> None:
        super().__init__()
        C, D = config.hidden_size, config.head_size
        self.layer = layer
        self.head_dim = D
        self.dropout = config.attention_dropout or 0.0
        self.q_proj = nn.Linear(C, config.num_attention_heads * D)
        self.k_proj = nn.Linear(C, config.kv_heads * D)
        self.v_proj = nn.Linear(C, config.kv_heads * D)
        self.dense = nn.Linear(config.num_attention_heads * D, C)
        normed, eps = config.qk_layernorm, config.layer_norm_eps
        self.q_layernorm = nn.LayerNorm(D, eps=eps) if normed else nn.Identity()
        self.k_layernorm = nn.LayerNorm(D, eps=eps) if normed else nn.Identity()

    def forward(self, x: Tensor, rotate: Rotation, past: PastKeyValues | None) -> Tensor:
        """Return what each token gathers from those before it: (B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (
            project(x).view(B, T, -1, self.head_dim)  # (B, T, heads, D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q = rotate(self.q_layernorm(q).transpose(1, 2))  # (B, H, T, D)
        k = rotate(self.k_layernorm(k).transpose(1, 2))  # (B, H_kv, T, D)
        v = v.transpose(1, 2)  # (B, H_kv, T, D)
        dropout = self.dropout if self.training else 0.0
        y = attend(past, self.layer, q, k, v, dropout=dropout)  # (B, H, T, D)
        return self.dense(y.transpose(1, 2).flatten(2))


class PhiMLP(nn.Module):
    """Two linear layers with an activation between, for each token on its own."""

    def __init__(self, config: PhiConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, I) -> (B, T, C)."""
        return self.fc2(self.act(self.fc1(x)))


class PhiDecoderLayer(nn.Module):
    """Attention and MLP side by side on one norm, both added to the residual stream."""

    def __init__(self, config: PhiConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = PhiAttention(config, layer)
        self.mlp = PhiMLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, rotate: Rotation, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        y = self.input_layernorm(x)
        attended = self.resid_dropout(self.self_attn(y, rotate, past))
        return attended + self.resid_dropout(self.mlp(y)) + x


class PhiModel(nn.Module):
    """The decoder without its head: token ids to hidden states."""

    def __init__(self, config: PhiConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, C, padding_idx=config.padding_idx)
        self.embed_dropout = nn.Dropout(config.embd_pdrop)
        layers = range(config.num_hidden_layers)
        self.layers = nn.ModuleList([PhiDecoderLayer(config, layer) for layer in layers])
        self.final_layernorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.rotary_emb = rotary_embedding(
            config.rope_parameters, config.head_size, config.max_position_embeddings
        )

    def forward(
        self, input_ids: Tensor, cache: Cache | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, C)."""
        T = input_ids.shape[1]
        past = None if cache is None else cache.begin(T, lengths)
        positions = gradient.arange(T, device=input_ids.device) if past is None else past.positions
        x = self.embed_dropout(self.embed_tokens(input_ids))  # (B, T, C)
        rotate = self.rotary_emb(positions, x.dtype, lengths)
        for layer in self.layers:
            x = layer(x, rotate, past)
        if past is not None:
            past.commit()
        return self.final_layernorm(x)


class PhiForCausalLM(LlamaForCausalLM):
    """Phi with its language-model head, which has a matrix and a bias of its own.

    Example:
        >>> config = PhiConfig(vocab_size=256, hidden_size=64, intermediate_size=96,
        ...                    num_hidden_layers=2, num_attention_heads=4)
        >>> PhiForCausalLM(config)(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class = PhiConfig
    head_bias = True

    def make_model(self, config: Any) -> PhiModel:
        """Return the decoder: token ids (B, T) to hidden states (B, T, C)."""
        return PhiModel(config)
