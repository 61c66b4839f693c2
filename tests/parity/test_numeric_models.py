"""Training steps of the models of `bench.further_models.numeric` beside PyTorch's: the same weights
and inputs give the same losses and gradients, and compiled steps give those of eager ones."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import gradient
from bench.further_models.numeric import MODELS
from gradient.backends.numpy import kernels

pytestmark = pytest.mark.parity

every_model = pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])


@pytest.fixture
def same_noise(monkeypatch):
    """Random numbers that both packages take from NumPy, from its beginning after each call."""
    stream = np.random.default_rng(0)

    def begin():
        nonlocal stream
        stream = np.random.default_rng(0)

    for name in ("gradient", "torch"):
        package = importlib.import_module(name)

        def like(x, of, package=package):
            return package.tensor(getattr(stream, of)(tuple(x.shape)), dtype=x.dtype)

        def noise(shape, dtype, device, package=package):
            return package.tensor(stream.standard_normal(tuple(shape)), dtype=dtype)

        monkeypatch.setattr(package, "rand_like", lambda x, like=like: like(x, "random"))
        monkeypatch.setattr(package, "randn_like", lambda x, like=like: like(x, "standard_normal"))
        own = importlib.import_module(f"{name}.distributions.normal")
        monkeypatch.setattr(own, "randn" if package is gradient else "_standard_normal", noise)
    return begin


def steps(package, built, arrays, dtype, wrap=lambda step: step, count=3, weights=None):
    """The losses of some steps and all gradients of each. With `weights`, each step begins at
    them."""
    module, loss_of, _ = built
    inputs = [package.tensor(array) for array in arrays]
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    optimizer = package.optim.AdamW(module.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    run, results = wrap(step), []
    for _ in range(count):
        if weights is not None:
            module.load_state_dict(weights)
        loss = run(*inputs).item()
        grads = {name: p.grad for name, p in module.named_parameters()}
        kept = {name: grad.numpy().copy() for name, grad in grads.items() if grad is not None}
        results.append((loss, kept))
    return results


def assert_close(ours, theirs, tolerance):
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_allclose(mine[0], other[0], rtol=tolerance, err_msg=f"loss {step}")
        assert mine[1].keys() == other[1].keys()
        for name, grad in other[1].items():
            scale = max(np.abs(grad).max(), 1e-3)
            error = np.abs(mine[1][name] - grad).max() / scale
            assert error <= tolerance, f"step {step}, {name}: {error:.1e} of {scale:.1e}"


@every_model
def test_steps_are_those_of_torch(model, same_noise):
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    built = model.build(torch)
    built[0].double()
    weights = {name: x.numpy().copy() for name, x in built[0].state_dict().items()}
    same_noise()
    theirs = steps(torch, built, built[2], torch.float64)

    ours = model.build(gradient)
    ours[0].double()
    ours[0].load_state_dict({name: gradient.tensor(array) for name, array in weights.items()})
    same_noise()
    assert_close(steps(gradient, ours, built[2], gradient.float64), theirs, 1e-9)


def compiled_and_eager(model, dtype, fuse):
    """Steps of both; if chains are fused, which rounds otherwise, each from the same weights."""
    gradient.manual_seed(0)
    built = model.build(gradient)
    built[0].to(dtype)
    weights = {name: x.clone() for name, x in built[0].state_dict().items()}

    def results(wrap):
        built[0].load_state_dict(weights)
        gradient.manual_seed(1)
        return steps(gradient, built, built[2], dtype, wrap, 5, weights if fuse else None)

    eager = results(lambda step: step)
    return results(lambda step: gradient.compile(step, fullgraph=True, fuse=fuse)), eager


ROUNDED = {"Sparse Gaussian process, 512": 1e-5}
"""Models with a product of a large matrix that lies in another order in a plan. OpenBLAS's kernels
for processors without AVX-512 then round otherwise."""


@pytest.mark.slow
@every_model
def test_compiled_steps_are_the_eager_ones(model):
    """In every bit, but for rounding by BLAS."""
    found = compiled_and_eager(model, gradient.float32, fuse=False)
    exact = kernels.load("cpu").BYTES >= 64
    assert_close(*found, 0 if exact else ROUNDED.get(model.name, 0))


@pytest.mark.slow
@every_model
def test_fused_steps_are_the_eager_ones(model):
    """But for the rounding of float64: that of float32 takes some number to the other side of a
    kink, so a single sample's share of a gradient is another."""
    assert_close(*compiled_and_eager(model, gradient.float64, fuse=True), 1e-9)
    for ours, theirs in zip(*compiled_and_eager(model, gradient.float32, fuse=True), strict=True):
        assert ours[0] == pytest.approx(theirs[0], rel=1e-4, abs=1e-6)
        for name, grad in theirs[1].items():
            assert np.linalg.norm(ours[1][name] - grad) <= 0.01 * max(np.linalg.norm(grad), 1e-3)
