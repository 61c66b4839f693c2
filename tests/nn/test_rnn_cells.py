"""Steps of recurrent cells: results that a user writes to."""

from __future__ import annotations

import pytest

import gradient
from gradient import nn
from gradient.testing import assert_close


def gradients(name: str, written: int | None) -> list[gradient.Tensor]:
    """Of the squares of a step's results, of which `written` is doubled in place."""
    gradient.manual_seed(0)
    cell = getattr(nn, name)(3, 4)
    x = gradient.randn(2, 3, requires_grad=True)
    states = cell(x)
    states = list(states) if isinstance(states, tuple) else [states]
    total = sum(each.square().sum() for i, each in enumerate(states) if i != written)
    if written is not None:
        before = [each.detach().clone() for each in states]
        states[written].mul_(2)
        for i, (each, was) in enumerate(zip(states, before, strict=True)):
            assert_close(each.detach(), was * 2 if i == written else was)
        total = total + (states[written] / 2).square().sum()
    return list(gradient.autograd.grad(total, [x, *cell.parameters()]))


@pytest.mark.parametrize(
    ("name", "written"), [("LSTMCell", 0), ("LSTMCell", 1), ("GRUCell", 0), ("RNNCell", 0)]
)
def test_a_write_to_a_state_changes_no_other(name: str, written: int, device: str) -> None:
    with gradient.device(device):
        for got, wanted in zip(gradients(name, written), gradients(name, None), strict=True):
            assert_close(got, wanted)
