"""What PyTorch finds by an `assert` is an AssertionError here, too, for code that catches one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import gradient
from gradient import nn
from gradient.data import ConcatDataset, TensorDataset
from gradient.errors import ArgumentError

X = gradient.zeros(3, 2, 4)
attend = nn.MultiheadAttention(4, 2)


@pytest.mark.parametrize(
    "slip",
    [
        lambda: TensorDataset(gradient.zeros(3), gradient.zeros(2)),
        lambda: ConcatDataset([]),
        lambda: nn.MultiheadAttention(5, 2),
        lambda: nn.Embedding(4, 3, padding_idx=9),
        lambda: nn.EmbeddingBag(4, 3, padding_idx=9),
        lambda: nn.functional.embedding(gradient.tensor([0]), gradient.zeros(4, 3), padding_idx=-5),
        lambda: attend(X[..., :2], X, X),
        lambda: attend(X, X[:2], X),
        lambda: attend(X, X[:, :1], X),
        lambda: attend(X, X[:, 0], X[:, 0]),
        lambda: attend(X, X, X, key_padding_mask=gradient.zeros(3, 2, dtype=gradient.bool)),
        lambda: attend(X, X, X, attn_mask=gradient.zeros(3, 3, dtype=gradient.int64)),
    ],
    ids=[
        *("tensors", "datasets", "heads", "embedding", "bag", "functional", "attended size"),
        *("lengths", "batches", "no batch", "padding", "mask of ints"),
    ],
)
def test_failed_checks_are_assertion_errors(slip: Callable[[], object]) -> None:
    with pytest.raises(AssertionError) as caught:
        slip()
    assert isinstance(caught.value, ArgumentError)
