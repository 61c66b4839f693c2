"""Granite 3 (IBM 2024): LLaMA with multipliers of embeddings, scores, residuals and logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from gradient import nn
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import positive
from gradient.models.gguf import DECODER, Key
from gradient.models.llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel
from gradient.models.llama_config import LLAMA_GGUF, LlamaConfig
from gradient.models.rope import ApplyRotary
from gradient.tensor import Tensor

__all__ = ["GraniteConfig", "GraniteForCausalLM"]


@dataclass(kw_only=True)
class GraniteConfig(LlamaConfig):
    """The shape of a Granite."""

    model_type: ClassVar[str] = "granite"
    gguf = replace(
        LLAMA_GGUF,
        name="granite",
        keys=(
            *DECODER,
            Key("embedding_scale", "embedding_multiplier", 1.0),
            Key("residual_scale", "residual_multiplier", 1.0),
            Key("logit_scale", "logits_scaling", 1.0),
            Key("attention.scale", "attention_multiplier", lambda read: read["head_dim"] ** -0.5),
        ),
        read=lambda values, metadata, shapes: None,
    )

    embedding_multiplier: float = positive(1.0)
    logits_scaling: float = positive(1.0)
    residual_multiplier: float = positive(1.0)
    attention_multiplier: float = positive(1.0)

    @property
    def scale(self) -> float:
        return self.attention_multiplier


class GraniteEmbedding(nn.Embedding):
    """Rows of the embedding, times a number."""

    def __init__(self, V: int, C: int, padding_idx: int | None, multiplier: float) -> None:
        super().__init__(V, C, padding_idx)
        self.multiplier = multiplier

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids) * self.multiplier


class GraniteDecoderLayer(LlamaDecoderLayer):
    """LLaMA's, with both parts scaled before they are added to the residual stream."""

    def __init__(self, config: GraniteConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.multiplier = config.residual_multiplier

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.self_attn(self.input_layernorm(x), rotate, past) * self.multiplier
        return x + self.mlp(self.post_attention_layernorm(x)) * self.multiplier


class GraniteForCausalLM(LlamaForCausalLM):
    """Granite with its language-model head."""

    config_class = GraniteConfig

    def __init__(self, config: GraniteConfig) -> None:
        embedding = partial(GraniteEmbedding, multiplier=config.embedding_multiplier)
        decoder = partial(LlamaModel, layer=GraniteDecoderLayer, embedding=embedding)
        super().__init__(config, decoder)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, T, C) -> logits (B, T, V)."""
        return super().compute_logits(hidden) / self.config.logits_scaling
