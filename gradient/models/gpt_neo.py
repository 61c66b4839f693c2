"""GPT-Neo (Black et al. 2021): GPT-2 with windows in every other layer and scores left unscaled.

Dimensions:
    B  batch    T  new tokens    C  hidden_size
    H  num_heads, each of size D = C / H
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from gradient import nn
from gradient.checks import Relation
from gradient.models.attention import ProjectedAttention
from gradient.models.causal_lm import PastKeyValues
from gradient.models.config import DecoderConfig, activation, positive, probability, size
from gradient.models.gpt2 import GPT2LMHeadModel, GPT2Model
from gradient.tensor import Tensor

__all__ = ["GPTNeoConfig", "GPTNeoForCausalLM"]


class GPTNeoConfig(DecoderConfig):
    """The shape of a GPT-Neo; the defaults are the 1.3B model's."""

    model_type = "gpt_neo"
    # The second half are GPT-2's names, which its modules use.
    aliases = {
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "n_positions": "max_position_embeddings",
        "n_embd": "hidden_size",
        "n_layer": "num_layers",
        "n_inner": "intermediate_size",
        "resid_pdrop": "resid_dropout",
        "embd_pdrop": "embed_dropout",
    }

    vocab_size: int = size(50257)
    max_position_embeddings: int = size(2048)
    hidden_size: int = size(2048)
    num_layers: int = size(24)
    num_heads: int = size(16)
    intermediate_size: int | None = size(None)  # None: 4 * hidden_size
    #: [[["global", "local"], 12]]: these two, repeated twelve times.
    attention_types: list[Any] | None = None
    window_size: int = size(256)
    activation_function: str = activation("gelu_new")
    resid_dropout: float = probability(0.0)
    embed_dropout: float = probability(0.0)
    attention_dropout: float = probability(0.0)
    layer_norm_epsilon: float = positive(1e-5)
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("kinds", "num_layers", "attention_types"),
            lambda kinds, layers, _: (
                len(kinds) == layers and all(kind in ("global", "local") for kind in kinds)
            ),
            "attention_types must make {num_layers} layers of 'global' and 'local', got "
            "{attention_types!r:.80}",
        ),
    )

    @property
    def kinds(self) -> list[str]:
        """Return "global" or "local" for each layer; [] if `attention_types` is not a list of such
        names and counts."""
        types = self.attention_types or [[["global", "local"], self.num_layers // 2]]
        try:
            return [kind for kinds, times in types for kind in list(kinds) * min(times, 10_000)]
        except (TypeError, ValueError):
            return []

    @property
    def windows(self) -> list[int | None]:
        return [self.window_size if kind == "local" else None for kind in self.kinds]


class GPTNeoSelfAttention(ProjectedAttention):
    """Attention with unscaled scores, in some layers over a window."""

    def __init__(self, config: GPTNeoConfig, layer: int) -> None:
        options = {"scale": 1.0, "window": config.windows[layer]}
        dropout = config.attention_dropout
        super().__init__(config, layer, bias=False, out_bias=True, dropout=dropout, **options)
        self.resid_dropout = nn.Dropout(config.resid_dropout)

    def forward(self, x: Tensor, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.resid_dropout(super().forward(x, past))


class GPTNeoAttention(nn.Module):
    """Contains the attention, for the name that it has in files."""

    def __init__(self, config: GPTNeoConfig, layer: int) -> None:
        super().__init__()
        self.attention = GPTNeoSelfAttention(config, layer)

    def forward(self, x: Tensor, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.attention(x, past)


class GPTNeoForCausalLM(GPT2LMHeadModel):
    """GPT-Neo with its language-model head, whose matrix is the token embedding."""

    config_class = GPTNeoConfig
    transposed = ()
    ignored = (r"\.attn\.attention\.(bias|masked_bias)$",)

    def __init__(self, config: GPTNeoConfig) -> None:
        super().__init__(config, partial(GPT2Model, attention=GPTNeoAttention))
