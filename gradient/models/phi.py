"""Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al. 2023, arXiv:2306.11644; Li et al. 2023).

LLaMA with GPT-J's variants: LayerNorm; attention and an MLP without a gate in parallel after one
norm; rotary positions for a part of each head; biases in all layers, including the head.
"""

from __future__ import annotations

from gradient.models.config import positive, probability, same_as
from gradient.models.gguf import TANH_GELU, Architecture
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig, Norms
from gradient.models.rope import rotary_dim

__all__ = ["PhiConfig"]


class PhiConfig(LlamaFamilyConfig):
    """The shape of a Phi; the defaults are Phi-1's."""

    model_type = "phi"
    gguf = Architecture("phi2", fixed={"hidden_act": TANH_GELU, "qk_layernorm": False})
    layer_norm_eps_field = "layer_norm_eps"
    bias_fields = BiasFields(True, True, True)
    default_partial_rotary_factor = 0.5
    norms = Norms(before_mlp="")
    parallel = True
    qk_norm = "head"
    qk_norm_names = ("q_layernorm", "k_layernorm")
    out_name = "dense"
    mlp_names = ("fc1", "fc2")
    decoder_names = ("embed_tokens", "layers", "final_layernorm")
    head_bias = True

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
        """Return the values that do not fit together; an odd column cannot be rotated here."""
        found = super().problems()
        if not found and (dim := rotary_dim(self.rope_parameters, self.head_size)) % 2:
            found = [
                f"partial_rotary_factor must make an even number of head_dim = {self.head_size}, "
                f"got {dim} columns to rotate"
            ]
        return found

    embedding_dropout = same_as("embd_pdrop")
    residual_dropout = same_as("resid_pdrop")
