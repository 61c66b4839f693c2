"""OLMo 2 (OLMo Team 2024, arXiv:2501.00656): LLaMA with norms after attention and MLP.

All heads' queries are normalised together, and so are all keys (section 3.3.2).
"""

from __future__ import annotations

from gradient.models.config import positive
from gradient.models.gguf import Architecture
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig, Norms

__all__ = ["Olmo2Config"]


class Olmo2Config(LlamaFamilyConfig):
    """The shape of an OLMo 2."""

    model_type = "olmo2"
    float32_rotary = True
    rms_norm_rounds_once = True
    qk_norm = "all"
    norms = Norms("", "post_attention_layernorm", "", "post_feedforward_layernorm")
    bias_fields = BiasFields("attention_bias", "attention_bias")
    gguf = Architecture("olmo2", fixed={"attention_bias": False})

    vocab_size: int = 50304
    rms_norm_eps: float = positive(1e-5)
    attention_bias: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279
