"""LLaMA (Touvron et al. 2023, arXiv:2302.13971, section 2.2) and the models built like it.

Mistral, Qwen2, Qwen3 and ERNIE 4.5 are the same decoder with other options, see
`gradient.models.llama_config`. Other families replace a part: `LlamaModel` and `LlamaDecoderLayer`
take the classes of their parts as arguments.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    I  intermediate_size     V  vocab_size     L  num_hidden_layers
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import gradient
from gradient import nn
from gradient.models.activations import ACTIVATIONS, MLP
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import CausalLM, PastKeyValues
from gradient.models.llama_config import (
    Ernie4_5Config,
    LlamaConfig,
    LlamaFamilyConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from gradient.models.rope import ApplyRotary, no_rotation, rotary_embedding
from gradient.models.rotary_config import RotaryConfig
from gradient.ops.fused import rms_norm
from gradient.tensor import Tensor

__all__ = [
    "Ernie4_5Config",
    "LlamaConfig",
    "LlamaForCausalLM",
    "MistralConfig",
    "Qwen2Config",
    "Qwen3Config",
]


class LlamaRMSNorm(nn.Module):
    """`round(x / sqrt(mean(x^2) + eps)) * weight` over the last axis (Zhang and Sennrich 2019).

    The quotient is rounded to x's dtype before it is multiplied, as in the models' training.
    `nn.RMSNorm`, which rounds once, gives other results in 16 bits. With weights near 100, which
    some models have, the difference changes the generated text.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(gradient.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight.to(x.dtype), eps=self.eps, round_first=True)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class LayerNormPerHead(nn.Module):
    """LayerNorm of each head, with separate weights: (B, T, heads * D) -> the same."""

    def __init__(self, D: int, size: int, eps: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(D, eps, bias=False) for _ in range(size // D))

    def forward(self, x: Tensor) -> Tensor:
        heads = x.chunk(len(self.norms), dim=-1)  # each (B, T, D)
        return gradient.cat([norm(y) for norm, y in zip(self.norms, heads, strict=True)], dim=-1)


#: Makes a norm from its size and epsilon.
MakeNorm = Callable[[int, float], nn.Module]


def norm_of(config: RotaryConfig) -> MakeNorm:
    """Return the class of norms that the config selects."""
    if config.layer_norm_eps_field:
        return nn.LayerNorm
    return nn.RMSNorm if config.rms_norm_rounds_once else LlamaRMSNorm


class LlamaAttention(CausalAttention):
    """Causal self-attention in which several query heads share a key-value head.

    Grouped queries: Ainslie et al. 2023 (arXiv:2305.13245), section 2.2.

    Args:
        norm: makes the norms of queries and keys, if the config has them; None: as other norms.
    """

    def __init__(self, config: LlamaFamilyConfig, layer: int, norm: MakeNorm | None = None) -> None:
        super().__init__(
            layer,
            scale=config.scale,
            window=config.windows[layer],
            softcap=config.softcap,
            dropout=config.attention_dropout,
        )
        C, D, biases = config.hidden_size, config.head_size, config.biases
        self.head_dim = D
        self.q_proj = nn.Linear(C, config.num_attention_heads * D, bias=biases.qkv)
        self.k_proj = nn.Linear(C, config.kv_heads * D, bias=biases.qkv)
        self.v_proj = nn.Linear(C, config.kv_heads * D, bias=biases.qkv)
        self.out_name = config.out_name
        out = nn.Linear(config.num_attention_heads * D, C, bias=biases.out)
        self.add_module(self.out_name, out)
        self.qk_norm = config.qk_norm if config.qk_layernorm else ""
        self.qk_norm_names = config.qk_norm_names
        if self.qk_norm:
            norm = norm or norm_of(config)
            if self.qk_norm == "own":
                norm = partial(LayerNormPerHead, D)
            sizes = self.q_proj.out_features, self.k_proj.out_features
            for name, size in zip(self.qk_norm_names, sizes, strict=True):
                size = D if self.qk_norm == "head" else size
                self.add_module(name, norm(size, config.norm_eps))

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """Return the attention output: (B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)  # (B, T, H D or H_kv D)
        if self.qk_norm in ("all", "own"):
            q, k = self.normed(q, k)
        q, k, v = (y.view(B, T, -1, self.head_dim) for y in (q, k, v))  # (B, T, H or H_kv, D)
        if self.qk_norm == "head":
            q, k = self.normed(q, k)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # (B, H or H_kv, T, D)
        return getattr(self, self.out_name)(self.attend(past, rotate(q), rotate(k), v))

    def normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys, normalised if the config says so."""
        q_norm, k_norm = self.qk_norm_names
        return getattr(self, q_norm)(q), getattr(self, k_norm)(k)


class LlamaMLP(nn.Module):
    """`down(act(gate(x)) * up(x))`: SwiGLU, or a variant with another act (Shazeer 2020).

    Args:
        intermediate_size: I; None: the config's.
    """

    def __init__(self, config: LlamaFamilyConfig, intermediate_size: int | None = None) -> None:
        super().__init__()
        C, I = config.hidden_size, intermediate_size or config.intermediate_size  # noqa: E741
        self.gate_proj = nn.Linear(C, I, bias=config.biases.mlp)
        self.up_proj = nn.Linear(C, I, bias=config.biases.mlp)
        self.down_proj = nn.Linear(I, C, bias=config.biases.mlp)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class StackedMLP(nn.Module):
    """LLaMA's MLP, with gate and up stacked in one matrix."""

    def __init__(self, config: LlamaFamilyConfig) -> None:
        super().__init__()
        C, I = config.hidden_size, config.intermediate_size  # noqa: E741
        self.gate_up_proj = nn.Linear(C, 2 * I, bias=config.biases.mlp)
        self.down_proj = nn.Linear(I, C, bias=config.biases.mlp)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # each (B, T, I)
        return self.down_proj(self.act(gate) * up)


def mlp_of(config: LlamaFamilyConfig) -> nn.Module:
    """Return a layer's MLP, with or without a gate."""
    if config.mlp_names is None:
        return StackedMLP(config) if config.stacked_gate else LlamaMLP(config)
    C, I, act = config.hidden_size, config.intermediate_size, config.hidden_act  # noqa: E741
    return MLP(C, I, act, config.mlp_names, bias=config.biases.mlp)


class LlamaDecoderLayer(nn.Module):
    """Attention, then the MLP, each added to the residual stream; or both in parallel.

    `config.norms` determines whether their inputs, their outputs or both are normalised.

    Args:
        attention: makes `self_attn` from the config and the layer's number.
        mlp: makes `mlp` from the config.
        norm: makes a norm; None: the one that the config selects.
    """

    def __init__(
        self,
        config: LlamaFamilyConfig,
        layer: int,
        *,
        attention: Callable[[Any, int], nn.Module] = LlamaAttention,
        mlp: Callable[[Any], nn.Module] = mlp_of,
        norm: MakeNorm | None = None,
    ) -> None:
        super().__init__()
        norm = norm or norm_of(config)
        self.self_attn = attention(config, layer)
        self.mlp_name, self.parallel = config.mlp_name, config.parallel
        self.add_module(self.mlp_name, mlp(config))
        self.norms = config.norms._replace(before_mlp="") if config.parallel else config.norms
        for name in filter(None, self.norms):
            self.add_module(name, norm(config.hidden_size, config.norm_eps))
        self.dropout = nn.Dropout(config.residual_dropout)
        self.multiplier = config.residual_multiplier

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        read = self.normed(self.norms.before_attention, x)
        y = self.self_attn(read, rotate, past)
        x = x + self.scaled(self.normed(self.norms.after_attention, y))
        if not self.parallel:
            read = self.normed(self.norms.before_mlp, x)
        y = getattr(self, self.mlp_name)(read)
        return x + self.scaled(self.normed(self.norms.after_mlp, y))

    def normed(self, name: str, x: Tensor) -> Tensor:
        """Return x after the norm of this name; "": x itself."""
        return getattr(self, name)(x) if name else x

    def scaled(self, y: Tensor) -> Tensor:
        """Return y as it is added to the residual stream: with dropout and multiplier."""
        y = self.dropout(y)
        return y if self.multiplier == 1 else y * self.multiplier


class LlamaModel(nn.Module):
    """A decoder with rotary positions, without its head: token ids to hidden states.

    Args:
        layer: makes a layer from the config, its number, `norm` and `parts`.
        norm: makes a norm; None: the one that the config selects.
        embedding: makes the embedding from V, C and `padding_idx`.
        parts: the parts of a layer, see `LlamaDecoderLayer`.
    """

    def __init__(
        self,
        config: RotaryConfig,
        *,
        layer: Callable[..., nn.Module] = LlamaDecoderLayer,
        norm: MakeNorm | None = None,
        embedding: Callable[[int, int, int | None], nn.Module] = nn.Embedding,
        **parts: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        C, norm = config.hidden_size, norm or norm_of(config)
        self.names = embed_tokens, layers, last_norm = config.decoder_names
        self.add_module(embed_tokens, embedding(config.vocab_size, C, config.padding_idx))
        self.embedding_multiplier = config.embedding_multiplier
        self.embed_dropout = nn.Dropout(config.embedding_dropout)
        numbers = range(config.num_hidden_layers)
        made = [layer(config, n, norm=norm, **parts) for n in numbers]
        self.add_module(layers, nn.ModuleList(made))
        self.add_module(last_norm, norm(C, config.norm_eps))
        self.rotary_kinds = config.rotary_kinds
        self.rotary_emb = nn.ModuleDict(
            {
                kind: rotary_embedding(
                    parameters,
                    config.rotary_size,
                    config.max_position_embeddings,
                    interleaved=config.interleaved_rotary,
                    keep_float32=config.float32_rotary,
                )
                for kind, parameters in config.ropes.items()
            }
        )

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        past: PastKeyValues | None,
        lengths: Sequence[int] | None,
    ) -> Tensor:
        """Token ids (B, T) and their positions -> hidden states (B, T, C); see `CausalLM`."""
        embed_tokens, layers, norm = (getattr(self, name) for name in self.names)
        x = embed_tokens(input_ids)  # (B, T, C)
        if self.embedding_multiplier != 1:
            x = x * self.embedding_multiplier
        x = self.embed_dropout(x)
        # cos and sin are computed here once, for all layers.
        rotate: dict[str | None, ApplyRotary] = {
            kind: rotary(positions, x.dtype, lengths) for kind, rotary in self.rotary_emb.items()
        }
        rotate[None] = no_rotation
        # `gradient memory --measure` keeps only the first layers.
        for layer, kind in zip(layers, self.rotary_kinds, strict=False):
            x = layer(x, rotate[kind], past)
        return norm(x)


class LlamaForCausalLM(CausalLM):
    """LLaMA with its language-model head.

    Args:
        decoder: makes `model` from the config and `parts`.
        parts: the parts of the decoder, see `LlamaModel`.

    Example:
        >>> config = LlamaConfig(vocab_size=256, hidden_size=64, intermediate_size=96,
        ...                      num_hidden_layers=2, num_attention_heads=4)
        >>> LlamaForCausalLM(config)(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class: ClassVar[type[LlamaFamilyConfig]] = LlamaConfig
    ignored: ClassVar[tuple[str, ...]] = (r"\.rotary_emb\.inv_freq$",)  # old transformers
    tied = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(
        self,
        config: Any,
        decoder: Callable[..., LlamaModel] = LlamaModel,
        **parts: Callable[..., nn.Module],
    ) -> None:
        super().__init__(config, partial(decoder, **parts))

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, T, C) -> logits (B, T, V), scaled and soft-capped as in the config."""
        logits, cap = super().compute_logits(hidden), self.config.logit_softcap
        if self.config.logits_scaling != 1:
            logits = logits / self.config.logits_scaling
        return logits if cap is None else cap * (logits / cap).tanh()

    def must_recompute(self, held: int, tokens: int) -> bool:
        """Return whether the rotary angles change, for models that then recompute the text."""
        return self.config.recomputes_when_angles_change and not self.same_rope_frequencies(
            held, tokens
        )
