"""Granite 3 (IBM 2024): LLaMA with multipliers of embeddings, scores, residuals and logits."""

from __future__ import annotations

from gradient.models.config import positive, same_as
from gradient.models.gguf import PAIRED, Architecture, Key
from gradient.models.llama_config import LlamaConfig

__all__ = ["GraniteConfig"]


class GraniteConfig(LlamaConfig):
    """The shape of a Granite."""

    model_type = "granite"
    gguf = Architecture(
        "granite",
        (
            Key("embedding_scale", "embedding_multiplier", 1.0),
            Key("residual_scale", "residual_multiplier", 1.0),
            Key("logit_scale", "logits_scaling", 1.0),
            Key("attention.scale", "attention_multiplier", lambda read: read["head_dim"] ** -0.5),
        ),
        paired=PAIRED,
    )

    embedding_multiplier: float = positive(1.0)
    logits_scaling: float = positive(1.0)
    residual_multiplier: float = positive(1.0)
    attention_multiplier: float = positive(1.0)
    scale = same_as("attention_multiplier")
