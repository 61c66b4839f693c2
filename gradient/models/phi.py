"""Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al. 2023, arXiv:2306.11644; Li et al. 2023).

Modules and config fields have the names of transformers' `PhiForCausalLM`. The decoder is GPT-J's:
attention and MLP read one norm side by side, and rotary positions rotate a part of each head.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    I  intermediate_size     V  vocab_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from dataclasses import replace

from gradient import nn
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import positive, probability, same_as
from gradient.models.gguf import ATTENTION, PLAIN, TANH_GELU, TOP, decoder_keys
from gradient.models.llama import LlamaAttention, LlamaForCausalLM, LlamaModel
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig
from gradient.models.mlp import MLP
from gradient.models.rope import ApplyRotary, rotary_dim
from gradient.tensor import Tensor

__all__ = ["PhiConfig", "PhiForCausalLM"]


class PhiConfig(LlamaFamilyConfig):
    """The shape of a Phi; the defaults are Phi-1's."""

    model_type = "phi"
    gguf = replace(
        PLAIN,
        name="phi2",
        keys=decoder_keys("layer_norm_eps"),
        top=TOP | {"output_norm": "model.final_layernorm"},
        block={
            **ATTENTION,
            "attn_output": "self_attn.dense",
            "ffn_up": "mlp.fc1",
            "ffn_down": "mlp.fc2",
        },
        fixed={"hidden_act": TANH_GELU, "qk_layernorm": False},
    )
    layer_norms = True
    norm_eps_field = "layer_norm_eps"
    bias_fields = BiasFields(True, True, True)
    default_partial_rotary_factor = 0.5

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = positive(1e-5)
    qk_layernorm: bool = False
    resid_pdrop: float = probability(0.0)
    embd_pdrop: float = probability(0.0)

    def problems(self) -> list[str]:
        """Return which values do not fit together; no odd column is rotated here."""
        found = super().problems()
        if not found and (dim := rotary_dim(self.rope_parameters, self.head_size)) % 2:
            found = [
                f"partial_rotary_factor must make an even number of head_dim = {self.head_size}, "
                f"got {dim} columns to rotate"
            ]
        return found

    embedding_dropout = same_as("embd_pdrop")

    @property
    def qk_norm(self) -> str:
        return "head" if self.qk_layernorm else ""


class PhiAttention(LlamaAttention):
    """LLaMA's attention under other names."""

    norm_names = ("q_layernorm", "k_layernorm")
    out_name = "dense"


class PhiDecoderLayer(nn.Module):
    """Attention and MLP side by side on one norm, both added to the residual stream."""

    def __init__(self, config: PhiConfig, layer: int, norm: type[nn.LayerNorm]) -> None:
        super().__init__()
        C, I, act = config.hidden_size, config.intermediate_size, config.hidden_act  # noqa: E741
        self.self_attn = PhiAttention(config, layer)
        self.mlp = MLP(C, I, act, ("fc1", "fc2"))
        self.input_layernorm = norm(C, config.layer_norm_eps)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, rotate: ApplyRotary, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        y = self.input_layernorm(x)
        attended = self.resid_dropout(self.self_attn(y, rotate, past))
        return attended + self.resid_dropout(self.mlp(y)) + x


class PhiModel(LlamaModel):
    """LLaMA's decoder, whose last norm has another name."""

    names = ("embed_tokens", "layers", "final_layernorm")


class PhiForCausalLM(LlamaForCausalLM):
    """Phi with its language-model head, which has a matrix and a bias of its own.

    Example:
        >>> config = PhiConfig(vocab_size=256, hidden_size=64, intermediate_size=96,
        ...                    num_hidden_layers=2, num_attention_heads=4)
        >>> PhiForCausalLM(config)(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class = PhiConfig

    def __init__(self, config: PhiConfig) -> None:
        super().__init__(config, PhiModel, head_bias=True, layer=PhiDecoderLayer)
