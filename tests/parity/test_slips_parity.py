"""Slips that ported scripts make: refused or warned of as PyTorch does, in words that help."""

from __future__ import annotations

from typing import Any

import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_dropout_without_a_second_layer_warns(name: str) -> None:
    for t in (gradient, torch):
        with pytest.warns(UserWarning, match="num_layers"):
            getattr(t.nn, name)(3, 4, dropout=0.5)
        getattr(t.nn, name)(3, 4, 2, dropout=0.5)
        getattr(t.nn, name)(3, 4)


@pytest.mark.parametrize("ignore_index", [-100, 0])
@pytest.mark.parametrize("sizes", [((3, 5), (3,)), ((5,), ()), ((2, 5, 3), (2, 3))])
def test_class_indices_of_floats_are_said_to_be_so(sizes: Any, ignore_index: int) -> None:
    for t, words in ((gradient, r"class indices.*\.long\(\)"), (torch, "Long")):
        loss = t.nn.CrossEntropyLoss(ignore_index=ignore_index)
        with pytest.raises(RuntimeError, match=words):
            loss(t.zeros(sizes[0]), t.zeros(sizes[1]))


def test_offsets_beyond_the_input_are_said_to_be_so() -> None:
    for t, words in ((gradient, "from 0 to 3"), (torch, "length 3")):
        bag, words_of = t.nn.EmbeddingBag(4, 2), t.tensor([0, 1, 2])
        with pytest.raises(RuntimeError, match=words):
            bag(words_of, t.tensor([0, 7]))


def test_a_module_in_place_of_its_parameters_is_named_by_its_class() -> None:
    for t in (gradient, torch):
        with pytest.raises(TypeError) as caught:
            t.optim.Adam(t.nn.Linear(2, 2), lr=0.1)
        assert "Linear" in str(caught.value) and "in_features" not in str(caught.value)
