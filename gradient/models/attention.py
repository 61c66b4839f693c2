"""Attention as every decoder calls it: over a cache where there is one, else causally in place.

Dimensions:
    B  batch      T  new tokens       D  size of a head
    H  heads      H_kv  key-value heads, a divisor of H
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradient.functional as F
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.models.causal_lm import PastKeyValues


def attend(
    past: PastKeyValues | None,
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return what each token gathers from those before it, and from itself.

    Args:
        past: the cache's view of this pass; None attends among the new tokens only.
        layer: whose keys and values these are, for the cache.
        query: (B, H, T, D).
        key, value: (B, H_kv, T, D).
        scale: of the scores; None is 1 / sqrt(D).
        window: a token sees itself and the window - 1 before it; None is all (Beltagy et al. 2020,
            section 3.1; Jiang et al. 2023, "Mistral 7B", section 2).
        softcap: scores become softcap * tanh(scores / softcap) (Gemma 2, section 2).
        dropout: probability of dropping an attention weight, in training.

    Returns:
        (B, H, T, D), in the query's dtype.
    """
    if past is not None:
        return past.attend(layer, query, key, value, scale=scale, window=window, softcap=softcap)
    return F.attention(
        query,
        key,
        value,
        is_causal=True,
        scale=scale,
        window=window,
        softcap=softcap,
        dropout_p=dropout,
    )
