"""GradScaler: scaling, unscaling, skipped steps, growth and back-off."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

import gradient
from gradient.amp import GradScaler
from gradient.errors import ArgumentError, AutogradError, TypeMismatch


def make(device):
    p = gradient.tensor([1.0, 2.0], device=device, requires_grad=True)
    return p, gradient.optim.SGD([p], lr=0.1)


def test_a_scaled_step_is_the_plain_step(device):
    p, optimizer = make(device)
    scaler = GradScaler(init_scale=1024.0)
    loss = (p * p).sum()
    scaler.scale(loss).backward()
    assert p.grad.tolist() == [2048.0, 4096.0]
    scaler.step(optimizer)
    scaler.update()
    assert p.grad.tolist() == [2.0, 4.0]
    np.testing.assert_allclose(p.tolist(), [0.8, 1.6], rtol=1e-6)


def test_unscaled_by_hand_is_not_unscaled_twice(device):
    p, optimizer = make(device)
    scaler = GradScaler(init_scale=4.0)
    scaler.scale((p * p).sum()).backward()
    scaler.unscale_(optimizer)
    assert p.grad.tolist() == [2.0, 4.0]
    scaler.step(optimizer)
    np.testing.assert_allclose(p.tolist(), [0.8, 1.6], rtol=1e-6)
    with pytest.raises(AutogradError, match="already called since the last update"):
        scaler.step(optimizer)
    with pytest.raises(AutogradError, match="called after step"):
        scaler.unscale_(optimizer)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_overflow_skips_the_step_and_lowers_the_scale(bad, device):
    p, optimizer = make(device)
    scaler = GradScaler(init_scale=8.0, growth_interval=2)
    scales = []
    for value in (1.0, bad, 1.0, 1.0, 1.0):
        optimizer.zero_grad()
        before = p.tolist()
        scaler.scale((p * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert (p.tolist() == before) == (value is bad)
        scales.append(scaler.get_scale())
    assert scales == [8.0, 4.0, 4.0, 8.0, 8.0]


def test_several_losses_and_optimizers(device):
    (p, first), (q, second) = make(device), make(device)
    scaler = GradScaler(init_scale=2.0)
    scaled = scaler.scale([(p * 3).sum(), ((q * 5).sum(), (q * 7).sum())])
    assert isinstance(scaled, list) and isinstance(scaled[1], tuple)
    (scaled[0] + scaled[1][0] + scaled[1][1]).backward()
    q.grad[0] = math.inf
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert p.grad.tolist() == [3.0, 3.0]
    np.testing.assert_allclose(p.tolist(), [0.7, 1.7], rtol=1e-6)
    assert q.tolist() == [1.0, 2.0] and scaler.get_scale() == 1.0


def test_disabled_does_nothing(device):
    p, optimizer = make(device)
    scaler = GradScaler(enabled=False)
    loss = p.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0 and scaler.state_dict() == {} and not scaler.is_enabled()
    np.testing.assert_allclose(p.tolist(), [0.9, 1.9], rtol=1e-6)


def test_state_continues(device):
    p, optimizer = make(device)
    scaler = GradScaler(init_scale=8.0, growth_interval=3)
    for _ in range(2):
        scaler.scale(p.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    resumed = GradScaler()
    resumed.load_state_dict(scaler.state_dict())
    resumed.scale(p.sum()).backward()
    resumed.step(optimizer)
    resumed.update()
    assert resumed.get_scale() == 16.0
    with pytest.raises(AutogradError, match="saved from a disabled GradScaler"):
        resumed.load_state_dict({})


def test_misuse(device):
    p, optimizer = make(device)
    with pytest.raises(ArgumentError, match="growth_factor should be > 1, but got 1.0"):
        GradScaler(growth_factor=1.0)
    with pytest.raises(ArgumentError, match="backoff_factor should be < 1, but got 1.0"):
        GradScaler(backoff_factor=1.0)
    scaler = GradScaler()
    with pytest.raises(AutogradError, match="no loss was scaled yet"):
        scaler.step(optimizer)
    with pytest.raises(TypeMismatch, match="expected a Tensor or an iterable of Tensors"):
        scaler.scale(3.0)
    scaler.scale(p.sum())
    with pytest.raises(AutogradError, match="no parameter of this optimizer has a gradient"):
        scaler.step(optimizer)
    with pytest.raises(AutogradError, match="closures are not supported"):
        scaler.step(optimizer, closure=lambda: None)
    half = gradient.ones(2, dtype=gradient.float16, device=device, requires_grad=True)
    half.grad = gradient.ones_like(half).detach()
    with pytest.raises(ArgumentError, match="some gradients are float16"):
        GradScaler.step(scaler, gradient.optim.SGD([half], lr=0.1))


@pytest.mark.parity
def test_the_scale_moves_as_in_pytorch():
    torch = importlib.import_module("torch")
    values = [1.0, 1.0, math.inf, 1.0, 1.0, 1.0, 1.0, 1.0, math.nan, math.nan, 1.0]
    histories = []
    for lib, scaler in (
        (gradient, GradScaler("cpu", 64.0, 3.0, 0.25, 2)),
        (torch, torch.amp.GradScaler("cpu", 64.0, 3.0, 0.25, 2)),
    ):
        p = lib.tensor([1.0, 2.0], requires_grad=True)
        optimizer = lib.optim.SGD([p], lr=0.125)
        rows = []
        for i, value in enumerate(values):
            optimizer.zero_grad()
            scaler.scale((p * value).sum()).backward()
            if i % 2:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update(7.0 if i == 5 else None)
            rows.append([scaler.get_scale(), *p.tolist(), scaler.state_dict()["_growth_tracker"]])
        histories.append(rows)
    assert histories[0] == histories[1]
