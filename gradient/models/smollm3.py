"""SmolLM3 (Bakouch et al. 2025): LLaMA whose every fourth layer knows no positions (NoPE)."""

from __future__ import annotations

from gradient.models.config import size
from gradient.models.gguf import PAIRED, Architecture
from gradient.models.llama_config import LlamaConfig
from gradient.models.rotary_config import FULL, SLIDING

__all__ = ["SmolLM3Config"]


class SmolLM3Config(LlamaConfig):
    """The shape of a SmolLM3; the defaults are the 3B model's."""

    model_type = "smollm3"
    default_rope_theta = 2_000_000.0
    gguf = Architecture(
        "smollm3", paired=PAIRED, rope_theta=default_rope_theta, one_window=True, no_rope_period=4
    )

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    max_position_embeddings: int = 32768
    no_rope_layers: list[int] | None = None  # 0 for each layer without rotation, 1 for others
    no_rope_layer_interval: int = size(4)  # the last of so many layers, if no_rope_layers is None
    use_sliding_window: bool = False
    sliding_window: int | None = size(None)
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    pad_token_id: int | None = 128004

    @property
    def usual_layer_kinds(self) -> list[str]:
        return [FULL if kind else SLIDING for kind in self.rotary_kinds]
