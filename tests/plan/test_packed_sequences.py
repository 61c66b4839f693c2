"""Compiled functions that pack sequences, and those whose shapes depend on values."""

from __future__ import annotations

from typing import Any

import pytest

import gradient
from gradient import nn, optim
from gradient.nn import functional as F
from gradient.nn.utils import rnn

pytestmark = pytest.mark.cpu_only


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("lengths", [[6, 4, 4, 1], [4, 6, 1, 4]])
def test_a_step_with_packed_sequences(kind: Any, lengths: list[int]):
    gradient.manual_seed(0)
    modules = [kind(3, 5, 2, bidirectional=True, batch_first=True) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())

    def step_of(module: nn.Module) -> Any:
        optimizer = optim.SGD(module.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            is_sorted = lengths == sorted(lengths, reverse=True)
            packed = rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=is_sorted
            )
            out, final = module(packed)
            padded, sizes = rnn.pad_packed_sequence(out, batch_first=True)
            last = final[0] if isinstance(final, tuple) else final
            loss = padded.square().sum() + last.sum()
            loss.backward()
            optimizer.step()
            return loss.detach(), sizes

        return step

    compiled, eager = gradient.compile(step_of(modules[0]), fullgraph=True), step_of(modules[1])
    for _ in range(5):
        x = gradient.randn(4, 6, 3)
        (loss, sizes), (expected, _) = compiled(x), eager(x)
        assert loss.tolist() == expected.tolist() and sizes.tolist() == lengths
    assert "2 replayed" in compiled.explain()


def test_batch_sizes_that_were_overwritten_are_read():
    packed = rnn.pack_padded_sequence(gradient.randn(3, 2, 4), [3, 3])
    packed.batch_sizes.copy_(gradient.tensor([3, 2, 1]))
    _, lengths = rnn.pad_packed_sequence(packed)
    assert lengths.tolist() == [3, 2, 1]


def _packed(lengths: Any) -> Any:
    return rnn.pack_padded_sequence(gradient.ones(3, 2, 4), lengths).data.sum()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (F.one_hot, r"one_hot reads .* \(pass num_classes\)"),
        (_packed, r"pack_padded_sequence reads .* \(pass lengths as a list"),
        (lambda n: gradient.ones(2).repeat_interleave(n), "a plan is for certain shapes"),
    ],
)
def test_a_warning_says_what_to_write_where_a_shape_depends_on_values(function: Any, message: str):
    compiled = gradient.compile(lambda n: function(n))
    with pytest.warns(UserWarning, match=message):
        for _ in range(3):
            compiled(gradient.tensor([3, 1]))
