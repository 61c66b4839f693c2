"""Arcee (Arcee 2025): LLaMA whose MLP has no gate and squares its ReLU."""

from __future__ import annotations

from gradient.models.config import positive
from gradient.models.gguf import PAIRED, Architecture
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig

__all__ = ["ArceeConfig"]


class ArceeConfig(LlamaFamilyConfig):
    """The shape of an Arcee; the defaults are the 4.5B model's."""

    model_type = "arcee"
    mlp_names = ("up_proj", "down_proj")
    bias_fields = BiasFields("attention_bias", "attention_bias", "mlp_bias")
    gguf = Architecture("arcee", fixed={"hidden_act": "relu2"}, paired=PAIRED)

    hidden_size: int = 2560
    intermediate_size: int = 18432
    hidden_act: str = "relu2"
    max_position_embeddings: int = 4096
    rms_norm_eps: float = positive(1e-5)
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
