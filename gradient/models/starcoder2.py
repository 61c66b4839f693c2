"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): LLaMA with LayerNorm and a plain MLP."""

from __future__ import annotations

from dataclasses import replace

from gradient.models.config import positive, probability, size
from gradient.models.gguf import ATTENTION, LLAMA_LIKE, TANH_GELU, WINDOW, decoder_keys
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig

__all__ = ["LlamaForCausalLM", "Starcoder2Config"]


class Starcoder2Config(LlamaFamilyConfig):
    """The shape of a StarCoder2; the defaults are the 3B model's."""

    model_type = "starcoder2"
    layer_norms = True
    norm_eps_field = "norm_epsilon"
    bias_fields = BiasFields("use_bias", "use_bias", "use_bias")
    mlp_names = ("c_fc", "c_proj")
    gguf = replace(
        LLAMA_LIKE,
        name="starcoder2",
        keys=decoder_keys("norm_epsilon", WINDOW),
        block=ATTENTION
        | {"ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        fixed={"hidden_act": ("gelu_pytorch_tanh", *TANH_GELU)},
        one_window=True,
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
