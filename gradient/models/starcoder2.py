"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): LLaMA with LayerNorm and a plain MLP."""

from __future__ import annotations

from gradient.models.config import positive, probability, size
from gradient.models.gguf import PYTORCH_TANH_GELU, WINDOW, Architecture
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig

__all__ = ["Starcoder2Config"]


class Starcoder2Config(LlamaFamilyConfig):
    """The shape of a StarCoder2; the defaults are the 3B model's."""

    model_type = "starcoder2"
    layer_norm_eps_field = "norm_epsilon"
    bias_fields = BiasFields("use_bias", "use_bias", "use_bias")
    mlp_names = ("c_fc", "c_proj")
    gguf = Architecture(
        "starcoder2", (WINDOW,), fixed={"hidden_act": PYTORCH_TANH_GELU}, one_window=True
    )

    vocab_size: int = 49152
    hidden_size: int = 3072
    intermediate_size: int = 12288
    num_hidden_layers: int = 30
    num_attention_heads: int = 24
    num_key_value_heads: int | None = 2
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 4096
    norm_epsilon: float = positive(1e-5)
    sliding_window: int | None = size(None)
    residual_dropout: float = probability(0.0)
    embedding_dropout: float = probability(0.0)
    use_bias: bool = True
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
