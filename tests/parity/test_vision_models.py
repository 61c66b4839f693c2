"""Training steps of `bench/further_models/vision.py` in float64: the same losses and gradients as
PyTorch's, from the same weights, inputs and random numbers."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pytest

import gradient
from bench.further_models.vision import MODELS

pytestmark = pytest.mark.parity

RANDOM = {
    "rand": lambda draws, *shape: draws.random(shape),
    "randint": lambda draws, low, high, shape: draws.integers(low, high, shape),
    "randperm": lambda draws, n: draws.permutation(n),
    "randn_like": lambda draws, x: draws.standard_normal(tuple(x.shape)),
}


@pytest.fixture
def in_double(monkeypatch):
    """Both packages make float64 numbers, and draw the same ones."""
    packages = [gradient, importlib.import_module("torch")]
    for package in packages:
        package.set_default_dtype(package.float64)

        def same(draw, package=package, draws=None):
            return lambda *given: package.tensor(draw(np.random.default_rng(0), *given))

        for name, draw in RANDOM.items():
            monkeypatch.setattr(package, name, same(draw))
    yield packages
    for package in packages:
        package.set_default_dtype(package.float32)


def steps(package, built, weights=None, compiled=False):
    """Losses and all gradients of three steps, and the weights before them."""
    module, loss_of, arrays = built
    for part in module.modules():
        if isinstance(part, package.nn.Dropout | package.nn.Dropout2d):
            part.p = 0.0
    if weights is None:
        # Beside what a model begins with, such as an image sampled exactly at its pixels: there
        # rounding decides between the slopes of the two sides.
        draws = np.random.default_rng(1)
        for p in module.parameters():
            p.data += package.tensor(0.01 * draws.standard_normal(tuple(p.shape)))
    else:
        module.load_state_dict({name: package.tensor(w) for name, w in weights.items()})
    before = {name: w.detach().numpy().copy() for name, w in module.state_dict().items()}
    x, y = (package.tensor(a.astype(np.float64) if a.dtype == np.float32 else a) for a in arrays)
    optimizer = package.optim.AdamW(module.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = package.compile(step, fullgraph=True) if compiled else step
    found = []
    for _ in range(5 if compiled else 3):
        loss = float(run(x, y))
        gradients = {
            name: None if p.grad is None else p.grad.detach().numpy().copy()
            for name, p in module.named_parameters()
        }
        found.append((loss, gradients))
    return found, before


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.build.__name__)
def test_steps_are_pytorchs(model, in_double):
    ours, torch = in_double
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model.build(torch)
        expected, weights = steps(torch, theirs)
    module, loss_of, _ = model.build(ours)
    found, _ = steps(ours, (module, loss_of, theirs[2]), weights)
    for (loss, gradients), (true_loss, true_gradients) in zip(found, expected, strict=True):
        assert loss == pytest.approx(true_loss, rel=1e-9)
        assert gradients.keys() == true_gradients.keys()
        for name, true in true_gradients.items():
            if true is None:
                assert gradients[name] is None, name
                continue
            size = max(np.abs(true).max(), 1e-3)
            np.testing.assert_allclose(gradients[name] / size, true / size, atol=1e-9, err_msg=name)
