"""Causal attention for all decoders: over a cache if there is one, else among the new tokens.

Dimensions:
    B  batch      T  new tokens       D  size of a head      C  hidden_size
    H  heads      H_kv  key-value heads, a divisor of H
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradient.functional as F
from gradient import nn
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.models.causal_lm import PastKeyValues
    from gradient.models.config import DecoderConfig


class CausalAttention(nn.Module):
    """Base of the attention of one decoder layer: `attend`, and its options.

    A subclass adds the projections, whose names are the checkpoint's.

    Args:
        layer: the layer's index in the cache.
        scale: the factor of the scores; None: 1 / sqrt(D).
        window: a token sees itself and the window - 1 tokens before it; None: all (Beltagy et al.
            2020, section 3.1; Jiang et al. 2023, "Mistral 7B", section 2).
        softcap: scores become softcap * tanh(scores / softcap) (Gemma 2, section 2).
        dropout: probability of dropping an attention weight, in training.
    """

    def __init__(
        self,
        layer: int,
        *,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
        dropout: float | None = 0.0,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.scale = scale
        self.window = window
        self.softcap = softcap
        self.dropout = dropout or 0.0

    def attend(
        self, past: PastKeyValues | None, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Return the attention output: each token attends to itself and to the tokens before it.

        Args:
            past: the keys and values of earlier tokens; None: attend among the new tokens only.
            query: (B, H, T, D).
            key, value: (B, H_kv, T, D).

        Returns:
            (B, T, H D), the heads side by side, in the query's dtype.
        """
        options: Any = {"scale": self.scale, "window": self.window, "softcap": self.softcap}
        if past is not None:
            y = past.attend(self.layer, query, key, value, **options)
        else:
            dropout = self.dropout if self.training else 0.0
            y = F.attention(query, key, value, is_causal=True, dropout_p=dropout, **options)
        return y.transpose(1, 2).flatten(2)


class ProjectedAttention(CausalAttention):
    """Causal self-attention of H heads (Vaswani et al. 2017, section 3.2.2).

    Queries, keys, values and the output each have a linear layer.

    Args:
        bias, out_bias: whether the first three, and the last, have a bias.
        options: arguments of `CausalAttention`.
    """

    def __init__(
        self, config: DecoderConfig, layer: int, *, bias: bool, out_bias: bool, **options: Any
    ) -> None:
        super().__init__(layer, **options)
        C = config.hidden_size
        self.head_dim = config.head_size
        self.q_proj = nn.Linear(C, C, bias=bias)
        self.k_proj = nn.Linear(C, C, bias=bias)
        self.v_proj = nn.Linear(C, C, bias=bias)
        self.out_proj = nn.Linear(C, C, bias=out_bias)

    def forward(self, x: Tensor, past: PastKeyValues | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (
            project(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H, T, D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(self.attend(past, q, k, v))
