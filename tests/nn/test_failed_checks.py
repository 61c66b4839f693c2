"""What PyTorch finds by an `assert` is an AssertionError here, too, for code that catches one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import gradient
from gradient import nn
from gradient.data import ConcatDataset, TensorDataset
from gradient.errors import ArgumentError


@pytest.mark.parametrize(
    "slip",
    [
        lambda: TensorDataset(gradient.zeros(3), gradient.zeros(2)),
        lambda: ConcatDataset([]),
        lambda: nn.MultiheadAttention(5, 2),
        lambda: nn.Embedding(4, 3, padding_idx=9),
        lambda: nn.EmbeddingBag(4, 3, padding_idx=9),
        lambda: nn.functional.embedding(gradient.tensor([0]), gradient.zeros(4, 3), padding_idx=-5),
    ],
    ids=["tensors", "datasets", "heads", "embedding", "bag", "functional"],
)
def test_failed_checks_are_assertion_errors(slip: Callable[[], object]) -> None:
    with pytest.raises(AssertionError) as caught:
        slip()
    assert isinstance(caught.value, ArgumentError)
