"""Training steps of the measured models of sequences, graphs and sets, beside PyTorch's in
float64: losses and all gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import gradient
from bench.further_models import sequences

pytestmark = pytest.mark.parity
MODELS = {model.build.__name__: model for model in sequences.MODELS}


def built(package, model):
    """The model and its inputs in float64, without dropout, and its loss."""
    package.manual_seed(0)
    module, loss_of, arrays = model.build(package)
    for part in module.modules():
        if isinstance(part, package.nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0
    tensors = [package.tensor(array) for array in arrays]
    return module.double(), loss_of, [x.double() if x.is_floating_point() else x for x in tensors]


def step(module, loss_of, inputs, optimizer):
    optimizer.zero_grad()
    loss = loss_of(*inputs)
    loss.backward()
    gradients = {
        name: None if parameter.grad is None else parameter.grad.numpy().copy()
        for name, parameter in module.named_parameters()
    }
    optimizer.step()
    return loss.item(), gradients


@pytest.mark.parametrize("name", MODELS)
def test_three_steps(name):
    torch = pytest.importorskip("torch")
    ours, theirs = (built(package, MODELS[name]) for package in (gradient, torch))
    state = {key: copy.deepcopy(value.numpy()) for key, value in theirs[0].state_dict().items()}
    ours[0].load_state_dict({key: gradient.tensor(value) for key, value in state.items()})
    optimizers = [
        package.optim.AdamW(module.parameters(), lr=1e-3)
        for package, (module, _, _) in zip((gradient, torch), (ours, theirs), strict=True)
    ]
    for _ in range(3):
        loss, gradients = step(*ours, optimizers[0])
        expected_loss, expected = step(*theirs, optimizers[1])
        assert loss == pytest.approx(expected_loss, rel=1e-9)
        assert gradients.keys() == expected.keys()
        for key, value in expected.items():
            assert (gradients[key] is None) == (value is None), key
            if value is not None:
                scale = max(1e-3, float(np.abs(value).max()))
                np.testing.assert_allclose(
                    gradients[key], value, atol=1e-8 * scale, rtol=1e-7, err_msg=key
                )
