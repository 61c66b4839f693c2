"""StableLM 2 and 3B (Bellagente et al. 2024, arXiv:2402.17834): LLaMA with LayerNorm."""

from __future__ import annotations

from gradient.models.config import positive, probability, same_as
from gradient.models.gguf import Architecture, Key
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig

__all__ = ["StableLmConfig"]


class StableLmConfig(LlamaFamilyConfig):
    """The shape of a StableLM; the defaults are the 3B model's."""

    model_type = "stablelm"
    layer_norm_eps_field = "layer_norm_eps"
    default_partial_rotary_factor = 0.25
    bias_fields = BiasFields(qkv="use_qkv_bias")
    qk_norm = "own"
    qk_norm_names = ("q_layernorm", "k_layernorm")
    gguf = Architecture(
        "stablelm",
        (Key("use_parallel_residual", "use_parallel_residual", False),),
        fixed={"qk_layernorm": False},
    )

    vocab_size: int = 50304
    hidden_size: int = 2560
    intermediate_size: int = 6912
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 4096
    layer_norm_eps: float = positive(1e-5)
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    hidden_dropout: float = probability(0.0)
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0
    residual_dropout = same_as("hidden_dropout")
    parallel = same_as("use_parallel_residual")
