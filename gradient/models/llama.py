"""LLaMA (Touvron et al. 2023, arXiv:2302.13971, section 2.2) and the models built like it.

Mistral, Qwen2, Qwen3, Phi-3 and ERNIE 4.5 are the same decoder with other options, which
`gradient.models.llama_config` holds. Modules have the names of transformers' classes for each.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    I  intermediate_size     V  vocab_size     L  num_hidden_layers
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gradient
from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.attention import attend
from gradient.models.causal_lm import (
    Cache,
    CausalLM,
    KVShape,
    PastKeyValues,
    check_input_ids,
    last_tokens,
)
from gradient.models.llama_config import (
    Ernie4_5Config,
    LlamaConfig,
    LlamaFamilyConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)
from gradient.models.rope import Rotation, rotary_embedding
from gradient.nn import init
from gradient.ops.fused import rms_norm
from gradient.tensor import Tensor


class LlamaRMSNorm(nn.Module):
    """`round(x / sqrt(mean(x^2) + eps)) * weight` over the last axis (Zhang and Sennrich 2019).

    The quotient is rounded to x's dtype before it is multiplied, as when the models were trained.
    In 16 bits `nn.RMSNorm`, which rounds once, is another function, and weights near 100, which
    models do have, turn the difference into another text.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(gradient.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight.to(x.dtype), eps=self.eps, round_first=True)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class LlamaAttention(nn.Module):
    """Causal self-attention whose key-value heads serve several query heads each.

    Grouped queries: Ainslie et al. 2023 (arXiv:2305.13245), section 2.2.
    """

    #: What normalises queries and keys, where they are.
    norm_class: ClassVar[type[LlamaRMSNorm]] = LlamaRMSNorm

    def __init__(self, config: LlamaFamilyConfig, layer: int) -> None:
        super().__init__()
        C, D, eps = config.hidden_size, config.head_size, config.rms_norm_eps
        self.layer = layer
        self.head_dim = D
        self.query_size = config.num_attention_heads * D
        self.kv_size = config.kv_heads * D
        self.window = config.windows[layer]
        self.scale = config.scale
        self.softcap = config.score_cap
        self.dropout = config.attention_dropout or 0.0
        self.make_projections(C, config)
        self.o_proj = nn.Linear(self.query_size, C, bias=config.biases.out)
        self.q_norm = self.norm_class(D, eps) if config.qk_norm else nn.Identity()
        self.k_norm = self.norm_class(D, eps) if config.qk_norm else nn.Identity()

    def make_projections(self, C: int, config: LlamaFamilyConfig) -> None:
        """Create what `project` uses."""
        self.q_proj = nn.Linear(C, self.query_size, bias=config.biases.qkv)
        self.k_proj = nn.Linear(C, self.kv_size, bias=config.biases.qkv)
        self.v_proj = nn.Linear(C, self.kv_size, bias=config.biases.qkv)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, T, H D), keys and values (B, T, H_kv D)."""
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def forward(self, x: Tensor, rotate: Rotation, past: PastKeyValues | None) -> Tensor:
        """Return what each token gathers from those before it: (B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (y.view(B, T, -1, self.head_dim) for y in self.project(x))  # (B, T, heads, D)
        q = rotate(self.q_norm(q).transpose(1, 2))  # (B, H, T, D)
        k = rotate(self.k_norm(k).transpose(1, 2))  # (B, H_kv, T, D)
        v = v.transpose(1, 2)  # (B, H_kv, T, D)
        y = attend(
            past, self.layer, q, k, v,
            scale=self.scale, window=self.window, softcap=self.softcap,
            dropout=self.dropout if self.training else 0.0,
        )  # (B, H, T, D)  # fmt: skip
        return self.o_proj(y.transpose(1, 2).reshape(B, T, self.query_size))


class FusedAttention(LlamaAttention):
    """Attention whose queries, keys and values come from one matrix, stacked (Phi-3)."""

    def make_projections(self, C: int, config: LlamaFamilyConfig) -> None:
        self.qkv_proj = nn.Linear(C, self.query_size + 2 * self.kv_size, bias=config.biases.qkv)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv_proj(x).split([self.query_size, self.kv_size, self.kv_size], dim=-1)
        return q, k, v


class LlamaMLP(nn.Module):
    """`down(act(gate(x)) * up(x))`: SwiGLU, or its like for another act (Shazeer 2020)."""

    def __init__(self, C: int, I: int, hidden_act: str, bias: bool = False) -> None:  # noqa: E741
        super().__init__()
        self.gate_proj = nn.Linear(C, I, bias=bias)
        self.up_proj = nn.Linear(C, I, bias=bias)
        self.down_proj = nn.Linear(I, C, bias=bias)
        self.act = ACTIVATIONS[hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class FusedMLP(nn.Module):
    """The same with gate and up stacked in one matrix (Phi-3)."""

    def __init__(self, C: int, I: int, hidden_act: str, bias: bool = False) -> None:  # noqa: E741
        super().__init__()
        self.gate_up_proj = nn.Linear(C, 2 * I, bias=bias)
        self.down_proj = nn.Linear(I, C, bias=bias)
        self.act = ACTIVATIONS[hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # each (B, T, I)
        return self.down_proj(self.act(gate) * up)


class LlamaDecoderLayer(nn.Module):
    """Attention, then the MLP, each on the normalised and added to the residual stream."""

    norm_class: ClassVar[type[LlamaRMSNorm]] = LlamaRMSNorm

    def __init__(self, config: LlamaFamilyConfig, layer: int) -> None:
        super().__init__()
        C, eps = config.hidden_size, config.rms_norm_eps
        self.make_attention(config, layer)
        self.make_mlp(config, layer)
        self.input_layernorm = self.norm_class(C, eps)
        self.post_attention_layernorm = self.norm_class(C, eps)
        self.dropout = nn.Dropout(config.residual_dropout)

    def make_attention(self, config: Any, layer: int) -> None:
        """Create `self_attn`."""
        kind = FusedAttention if config.fused_projections else LlamaAttention
        self.self_attn = kind(config, layer)

    def make_mlp(self, config: Any, layer: int) -> None:
        """Create what `feed_forward` uses."""
        kind = FusedMLP if config.fused_projections else LlamaMLP
        sizes = config.hidden_size, config.intermediate_size
        self.mlp: nn.Module = kind(*sizes, config.hidden_act, config.biases.mlp)

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), each token on its own."""
        return self.mlp(x)

    def forward(self, x: Tensor, rotate: Rotation, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), rotate, past))
        return x + self.dropout(self.feed_forward(self.post_attention_layernorm(x)))


class LlamaModel(nn.Module):
    """The decoder without its head: token ids to hidden states."""

    def __init__(
        self, config: LlamaFamilyConfig, layer_class: type[LlamaDecoderLayer] = LlamaDecoderLayer
    ) -> None:
        super().__init__()
        C = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, C, padding_idx=config.padding_idx)
        layers = range(config.num_hidden_layers)
        self.layers = nn.ModuleList([layer_class(config, layer) for layer in layers])
        self.norm = LlamaRMSNorm(C, config.rms_norm_eps)
        self.rotary_emb = rotary_embedding(
            config.rope_parameters,
            config.head_size,
            config.max_position_embeddings,
            interleaved=config.interleaved_rotary,
            keep_float32=config.interleaved_rotary,
        )

    def forward(
        self, input_ids: Tensor, cache: Cache | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, C)."""
        T = input_ids.shape[1]
        past = None if cache is None else cache.begin(T, lengths)
        positions = gradient.arange(T, device=input_ids.device) if past is None else past.positions
        x = self.embed_tokens(input_ids)  # (B, T, C)
        # cos and sin are computed here once, for all layers.
        rotate = self.rotary_emb(positions, x.dtype, lengths)
        for layer in self.layers:
            x = layer(x, rotate, past)
        if past is not None:
            past.commit()
        return self.norm(x)


class LlamaForCausalLM(CausalLM):
    """LLaMA with its language-model head.

    Example:
        >>> config = LlamaConfig(vocab_size=256, hidden_size=64, intermediate_size=96,
        ...                      num_hidden_layers=2, num_attention_heads=4)
        >>> LlamaForCausalLM(config)(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class: ClassVar[type[LlamaFamilyConfig]] = LlamaConfig
    prefix = "model."
    ignored: ClassVar[tuple[str, ...]] = (r"\.rotary_emb\.inv_freq$",)  # of old transformers
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    #: What the decoder is made of; relatives with another feed-forward part have another class.
    layer_class: ClassVar[type[LlamaDecoderLayer]] = LlamaDecoderLayer
    #: Whether the head adds a bias.
    head_bias: ClassVar[bool] = False

    def __init__(self, config: LlamaFamilyConfig) -> None:
        super().__init__(config)
        with init.skip_init():  # the modules' own initial values would be overwritten below
            self.model = self.make_model(config)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=self.head_bias)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.reset_parameters()

    def make_model(self, config: Any) -> Any:
        """Return the decoder: token ids (B, T) to hidden states (B, T, C)."""
        return LlamaModel(config, self.layer_class)

    def reset_parameters(self) -> None:
        """Set the initial weights: matrices normal, biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                init.ones_(parameter)
            elif name.endswith("bias"):
                init.zeros_(parameter)
            else:
                init.normal_(parameter, 0.0, self.config.initializer_range)

    @property
    def context_length(self) -> None:
        """Return None: rotary positions go on beyond what a model was trained for, less well."""
        return None

    @property
    def kv_shapes(self) -> list[KVShape]:
        """Return H_kv heads of size D for each layer, and its window."""
        heads, size = self.config.kv_heads, self.config.head_size
        return [KVShape(heads, size, window) for window in self.config.windows]

    def must_recompute(self, held: int, tokens: int) -> bool:
        """Return whether the rotary angles change, in models that then recompute the text."""
        return self.config.recomputes_when_angles_change and not self.same_angles(held, tokens)

    def forward(
        self,
        input_ids: Tensor,
        cache: Cache | None = None,
        *,
        lengths: Sequence[int] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Token ids (B, T) -> logits (B, T, V), or (B, 1, V) with `last_only`; see `CausalLM`."""
        check_input_ids(input_ids, lengths, None)
        x = self.model(input_ids, cache, lengths)  # (B, T, C)
        if last_only:
            x = last_tokens(x, lengths)  # (B, 1, C)
        return self.predict(x)

    def predict(self, x: Tensor) -> Tensor:
        """Hidden states (B, T, C) -> logits (B, T, V)."""
        return self.lm_head(x)


class MistralForCausalLM(LlamaForCausalLM):
    """Mistral; see its config."""

    config_class = MistralConfig


class Qwen2ForCausalLM(LlamaForCausalLM):
    """Qwen2; see its config."""

    config_class = Qwen2Config


class Qwen3ForCausalLM(LlamaForCausalLM):
    """Qwen3; see its config."""

    config_class = Qwen3Config


class Phi3ForCausalLM(LlamaForCausalLM):
    """Phi-3; see its config."""

    config_class = Phi3Config


class Ernie4_5ForCausalLM(LlamaForCausalLM):
    """ERNIE 4.5; see its config."""

    config_class = Ernie4_5Config
