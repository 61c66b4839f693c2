"""Losses and data that several models of sequences have."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.training_models import Built


def supervised(model: Any, criterion: Any, x: np.ndarray, y: np.ndarray) -> Built:
    def loss(x: Any, y: Any) -> Any:
        return criterion(model(x), y)

    return model, loss, [x, y]


def next_token(package: Any, model: Any, vocab: int, batch: int, time: int) -> Built:
    """The next token at each place, for a model whose logits are (batch, time, vocab)."""
    ids = np.random.default_rng(0).integers(0, vocab, (batch, time + 1))

    def loss(x: Any, y: Any) -> Any:
        return package.nn.functional.cross_entropy(model(x).view(-1, vocab), y.view(-1))

    return model, loss, [ids[:, :-1].copy(), ids[:, 1:].copy()]


def next_token_by_column(package: Any, model: Any, vocab: int, batch: int, time: int) -> Built:
    """As `next_token`, for logits (batch, vocab, time)."""
    ids = np.random.default_rng(0).integers(0, vocab, (batch, time + 1))
    x, y = ids[:, :-1].copy(), ids[:, 1:].copy()
    return supervised(model, package.nn.functional.cross_entropy, x, y)
