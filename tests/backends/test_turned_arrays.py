"""Activations of large arrays in another order than by rows are kernels, with NumPy's layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.numpy import kernels
from gradient.nn import functional as F
from support.backend_table import BARE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(not kernels.available(), reason="there are no kernels"),
]

NUMBERS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("relu", "sigmoid", "logsigmoid", "hardsigmoid", "hardswish", "silu"), ()),
    "softplus": (1.0, 20.0),
    "hardtanh": (-1.0, 1.0),
    "leaky_relu": (0.01,),
    "elu": (1.0, 1.0, 1.0),
    "gelu": ("tanh",),
}
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned": lambda x: x.transpose(0, 2, 1),
    "channels first": lambda x: x.reshape(8, 4, 10, 70).transpose(0, 3, 1, 2),
    "half of the columns": lambda x: x[..., :35],
    "turned, with gaps": lambda x: x[:, ::2].transpose(2, 0, 1),
    "reversed": lambda x: x[:, ::-1],
    "expanded": lambda x: np.broadcast_to(x[:, :1], x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NUMBERS)
def test_they_are_kernels(name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("left to the default")

    be, rng = backends.get("cpu"), np.random.default_rng(0)
    x, g = (LAYOUTS[layout](rng.standard_normal((8, 40, 70)).astype(np.float32)) for _ in "xg")
    calls: list[tuple[str, list[np.ndarray]]] = [(name, [x]), (name + "_grad", [g, x])]
    calls.append((name + "_grad", [np.ascontiguousarray(g), x]))
    wanted = [
        (
            getattr(be, method)(*map(np.ascontiguousarray, arrays), *NUMBERS[name]),
            getattr(BARE, method)(*arrays, *NUMBERS[name]),
        )
        for method, arrays in calls
    ]
    for method, _ in calls:
        monkeypatch.setattr(ActivationDefaults, method, refuse)
    for i, (method, arrays) in enumerate(calls):
        found = getattr(be, method)(*arrays, *NUMBERS[name])
        bits, default = wanted[i]
        np.testing.assert_array_equal(found, bits)
        if i < 2 and layout not in ("reversed", "expanded"):
            assert found.strides == default.strides


@pytest.mark.parametrize("layout", ["turned", "half of the columns"])
@pytest.mark.parametrize("name", ["gelu", "silu", "sigmoid", "relu", "leaky_relu"])
def test_compiled_steps_compute_them_alike(name: str, layout: str) -> None:
    def loss(x: gradient.Tensor) -> gradient.Tensor:
        part = x.transpose(1, 2) if layout == "turned" else x[..., :35]
        return (getattr(F, name)(part) * 2).square().sum()

    compiled = gradient.compile(loss)
    for _ in range(3):
        x = gradient.randn(8, 40, 70, requires_grad=True)
        (wanted,) = gradient.autograd.grad(loss(x), x)
        (found,) = gradient.autograd.grad(compiled(x), x)
        gradient.testing.assert_close(found, wanted)


def test_a_gradient_that_broadcasts_is_the_defaults() -> None:
    be, rng = backends.get("cpu"), np.random.default_rng(0)
    x = rng.standard_normal((8, 70, 40)).astype(np.float32).transpose(0, 2, 1)
    g = rng.standard_normal((1, 40, 70)).astype(np.float32)
    np.testing.assert_allclose(be.silu_grad(g, x), BARE.silu_grad(g, x), rtol=1e-4, atol=1e-6)
