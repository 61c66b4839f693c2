"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): LLaMA with LayerNorm and a plain MLP."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.config import positive, probability, size
from gradient.models.gguf import (
    ATTENTION,
    CONTEXT,
    HEAD_DIM,
    KV_HEADS,
    SIZES,
    TANH_GELU,
    TOP,
    WINDOW,
    Architecture,
    Key,
    read_window,
)
from gradient.models.llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel
from gradient.models.llama_config import Biases, LlamaFamilyConfig
from gradient.tensor import Tensor

__all__ = ["Starcoder2Config", "Starcoder2ForCausalLM"]


@dataclass(kw_only=True)
class Starcoder2Config(LlamaFamilyConfig):
    """The shape of a StarCoder2; the defaults are the 3B model's."""

    model_type: ClassVar[str] = "starcoder2"
    norm_eps_field: ClassVar[str] = "norm_epsilon"
    gguf = Architecture(
        "starcoder2",
        (
            CONTEXT,
            *SIZES,
            KV_HEADS,
            HEAD_DIM,
            Key("attention.layer_norm_epsilon", "norm_epsilon"),
            WINDOW,
        ),
        TOP,
        ATTENTION
        | {"ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        fixed={"hidden_act": ("gelu_pytorch_tanh", *TANH_GELU)},
        bias="use_bias",
        one_window=True,
        read=read_window,
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

    @property
    def biases(self) -> Biases:
        return Biases(*[self.use_bias] * 3)


class Starcoder2MLP(nn.Module):
    """Two linear layers with an activation between, for each token on its own."""

    def __init__(self, config: Starcoder2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.use_bias)
        self.c_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.use_bias)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.c_proj(self.act(self.c_fc(x)))


class Starcoder2ForCausalLM(LlamaForCausalLM):
    """StarCoder2 with its language-model head."""

    config_class = Starcoder2Config

    def __init__(self, config: Starcoder2Config) -> None:
        layer = partial(LlamaDecoderLayer, mlp=Starcoder2MLP, norm=nn.LayerNorm)
        super().__init__(config, partial(LlamaModel, layer=layer, norm=nn.LayerNorm))
