"""Gradients that plans write over an operand: eager's bits, and less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn
from gradient.backends.numpy import elementwise, kernels, norms
from gradient.plan.executors import overwriting

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(not kernels.available(), reason="kernels need numba"),
]

Losses = Callable[[Any, Any, Any], Any]


def apart(model: Any, x: Any, y: Any) -> Any:
    return F.cross_entropy(model(x), y)


def smoothed(model: Any, x: Any, y: Any) -> Any:
    return F.cross_entropy(model(x), y, label_smoothing=0.1, ignore_index=3)


def logits_read_again(model: Any, x: Any, y: Any) -> Any:
    logits = model(x)
    return F.cross_entropy(logits, y) + logits.square().mean()


def logits_after_the_loss(model: Any, x: Any, y: Any) -> Any:
    logits = model(x)
    return F.cross_entropy(logits, y) + F.cross_entropy(logits * 0.5, y)


def gradient_read_again(model: Any, x: Any, y: Any) -> Any:
    h = model[0](x)
    return F.cross_entropy(model[2](h + model[1](h)), y)


def twice(model: Any, x: Any, y: Any) -> Any:
    h = model[0](x)
    return F.cross_entropy(model[2](F.gelu(h) * F.gelu(h, approximate="tanh")), y)


CASES = [apart, smoothed, logits_read_again, logits_after_the_loss, gradient_read_again, twice]


def run(losses: Losses, approximate: str, compiled: bool) -> tuple[list[Any], int]:
    """The losses and gradients of six batches, and the bytes of the plan's memory."""
    gradient.manual_seed(2)
    model = nn.Sequential(nn.Linear(24, 67), nn.GELU(approximate=approximate), nn.Linear(67, 41))

    def step(x: Any, y: Any) -> Any:
        model.zero_grad(set_to_none=True)
        loss = losses(model, x, y)
        loss.backward()
        return loss

    call = gradient.compile(step, fullgraph=True) if compiled else step
    found = []
    for i in range(6):
        x, y = gradient.randn(97, 24), gradient.randint(0, 41, (97,))
        if i == 5:
            x[3, 5] = float("inf")
            x[7, 0] = float("nan")
        found.append(call(x, y).detach().numpy())
        found += [p.grad.numpy().copy() for p in model.parameters()]
    if not compiled:
        return found, 0
    (signature,) = call.signatures.values()
    assert signature.replays > 0, call.explain()
    return found, signature.variants[0].executor.nbytes


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("losses", CASES, ids=lambda f: f.__name__)
def test_gradients_are_those_of_eager(losses: Losses, approximate: str) -> None:
    got, expected = run(losses, approximate, True)[0], run(losses, approximate, False)[0]
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True))


def test_a_plan_needs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    _, less = run(apart, "tanh", True)
    monkeypatch.setattr(overwriting, "OPERANDS", {})
    _, before = run(apart, "tanh", True)
    assert less < before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 31, 1000, 70001])
@pytest.mark.parametrize("approximate", elementwise.GELU_GRADS)
def test_gelu_grad_over_what_arrives(approximate: str, n: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    g, x = rng.standard_normal((2, n)).astype(dtype) * 4
    x[: min(n, 5)] = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])[: min(n, 5)]
    expected = np.empty_like(x)
    for out in (expected, g):
        kernel, size, _, *arrays = elementwise.gelu_grad_launch(g, x, approximate, out)
        kernel(0, size, *arrays)
    assert g.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 7, 1001])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_grad_over_the_logits(smoothing: float, classes: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((13, classes)) * 9).astype(dtype)
    logits[2, 0], logits[3, 0], logits[4] = np.inf, np.nan, -np.inf
    target = rng.integers(0, classes, 13)
    target[5] = -100
    g = rng.standard_normal(13).astype(dtype)
    high, log_sum = logits.max(1), np.ones(13, dtype)
    given, wrong = (g, logits, target, high, log_sum), np.zeros(1, np.int64)
    expected = np.empty_like(logits)
    for name, out in (("", (expected,)), ("_in_place", ())):
        launch = norms.class_launch(
            "cross_entropy_grad" + name, given, -100, smoothing, *out, wrong
        )
        launch[0](0, 13, *launch[3:])
    assert logits.tobytes() == expected.tobytes() and not wrong[0]
