"""Pruning; tests/parity/test_prune_parity.py compares it with PyTorch's."""

from __future__ import annotations

import pytest

import gradient
from gradient import nn
from gradient.nn.utils import prune


def test_training_keeps_the_zeros(device):
    gradient.manual_seed(0)
    layer = nn.Linear(6, 4).to(device)
    prune.l1_unstructured(layer, "weight", 0.5)
    zeros = layer.weight_mask == 0
    assert zeros.sum().item() == 12
    assert {name for name, _ in layer.named_parameters()} == {"weight_orig", "bias"}
    optimizer = gradient.optim.SGD(layer.parameters(), 0.1)
    parameter = layer.weight_orig
    for _ in range(3):
        loss = layer(gradient.ones(2, 6, device=device)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        assert parameter.grad[zeros].abs().max().item() == 0
        optimizer.step()
    prune.remove(layer, "weight")
    assert layer.weight is parameter and layer.weight[zeros].abs().max().item() == 0
    assert layer.weight[~zeros].abs().min().item() > 0
    assert not prune.is_pruned(layer) and "weight_mask" not in layer.state_dict()


def test_slices_that_are_left_are_pruned_next(device):
    layer = nn.Conv1d(2, 8, 3).to(device)
    for left in (6, 4, 2):
        prune.random_structured(layer, "weight", 2, dim=0)
        assert (layer.weight_mask.sum((1, 2)) > 0).sum().item() == left
    with pytest.raises(ValueError, match="RandomStructured: expected an amount of at most 2, .*3"):
        prune.random_structured(layer, "weight", 3, dim=0)
    assert (layer.weight_mask.sum((1, 2)) > 0).sum().item() == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: prune.l1_unstructured(m, "weight", -1), "an int of at least 0, or a float"),
        (lambda m: prune.l1_unstructured(m, "weight", float("nan")), "got nan"),
        (lambda m: prune.l1_unstructured(m, "weight", True), "a number as amount, got bool"),
        (lambda m: prune.ln_structured(m, "bias", 1, 2, 0), "at least 2 dimensions, got"),
        (lambda m: prune.custom_from_mask(m, "weight", gradient.ones(2)), r"shape \(4, 6\), got"),
        (lambda m: prune.remove(m, "weight"), "a module whose 'weight' is pruned, got Linear"),
        (
            lambda m: prune.l1_unstructured(m, "weight", 1, importance_scores=gradient.ones(3)),
            r"importance_scores of shape \(4, 6\), got \(3,\)",
        ),
    ],
)
def test_refusals_leave_the_module_as_it_was(call, message):
    layer = nn.Linear(6, 4)
    with pytest.raises((ValueError, TypeError), match=message):
        call(layer)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert not prune.is_pruned(layer)
