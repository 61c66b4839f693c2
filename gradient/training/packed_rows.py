"""Attention within each document, for rows of several documents.

In a model, the cache gives the positions and computes attention
(`gradient.models.causal_lm.Cache`). This cache stores nothing: it gives each token its position in
its document, and limits attention to that document. So models need no code for packed rows.

Dimensions:
    B  batch          T  tokens in a row      D  size of a head
    H  heads          H_kv  key-value heads
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import gradient
import gradient.functional as F
from gradient.tensor import Tensor
from gradient.tensor.device import DeviceLike


class PackedRows:
    """Rows of several documents, for one forward pass.

        logits = model(inputs, PackedRows(positions))

    Args:
        positions: (B, T) integers that start at 0 in each document.
        dropout: probability of dropping an attention weight.
    """

    def __init__(
        self, positions: np.ndarray, device: DeviceLike = "cpu", dropout: float = 0.0
    ) -> None:
        documents = np.cumsum(positions == 0, axis=1)
        order = np.arange(positions.shape[1])
        same = documents[:, :, None] == documents[:, None, :]
        before = order[:, None] >= order
        self.device = device
        self.dropout = dropout
        self.positions = gradient.from_numpy(positions).to(device)
        self._mask = gradient.from_numpy((same & before)[:, None]).to(device)  # (B, 1, T, T)
        self._windows: dict[int, Tensor] = {}

    def begin(self, tokens: int, lengths: Sequence[int] | None = None) -> PackedRows:
        """Return the cache itself, which stores no tokens."""
        return self

    def commit(self) -> None:
        """Do nothing: there is nothing to store."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Queries (B, H, T, D), keys and values (B, H_kv, T, D) -> (B, H, T, D)."""
        return F.attention(
            query,
            key,
            value,
            mask=self._mask if window is None else self._within(window),
            scale=scale,
            softcap=softcap,
            dropout_p=self.dropout,
        )

    def _within(self, window: int) -> Tensor:
        if window not in self._windows:
            order = gradient.arange(self._mask.shape[-1], device=self.device)
            near = order.unsqueeze(1) - order < window
            self._windows[window] = self._mask & near
        return self._windows[window]
