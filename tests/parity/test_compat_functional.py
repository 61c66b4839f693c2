"""What `nn.functional` has by two names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from gradient.nn import functional as F

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

VALUES = [[-3.0, -0.5, 0.0, 0.25, 2.0, float("inf"), float("-inf"), float("nan")]]

IN_PLACE: dict[str, list[tuple[float, ...]]] = {
    "relu_": [()],
    "elu_": [(), (0.5,)],
    "celu_": [(), (0.5,)],
    "selu_": [()],
    "hardtanh_": [(), (-0.4, 1.5)],
    "leaky_relu_": [(), (0.2,)],
    "rrelu_": [(), (0.1, 0.2)],
    "threshold_": [(0.25, -7.0)],
}


@pytest.mark.parametrize(
    ("name", "args"), [(name, args) for name, calls in IN_PLACE.items() for args in calls]
)
def test_in_place_names(name: str, args: tuple[float, ...]) -> None:
    found = []
    for package, functions in ((torch, torch.nn.functional), (gradient, F)):
        x = package.tensor(VALUES, dtype=package.float64)
        leaf = package.tensor([[-1.5, 0.5, 3.0]], dtype=package.float64, requires_grad=True)
        changed = leaf * 1
        y = getattr(functions, name)(changed, *args)
        assert y is changed
        y.sum().backward()
        returned = getattr(functions, name)(x, *args)
        assert returned is x
        found.append((x.numpy(), y.detach().numpy(), leaf.grad.numpy()))
        with pytest.raises(RuntimeError):  # a leaf that requires a gradient
            getattr(functions, name)(leaf, *args)
    for ours, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max_pool", "adaptive_max_pool"])
@pytest.mark.parametrize("options", [{}, {"return_indices": False}, {"return_indices": True}])
def test_pooling_with_indices(dims: int, kind: str, options: dict[str, Any]) -> None:
    name = f"{kind}{dims}d_with_indices"
    data = np.random.default_rng(0).normal(size=(2, 3, *[6] * dims)).round(1)  # with ties
    theirs = getattr(torch.nn.functional, name)(torch.tensor(data), 2, **options)
    ours = getattr(F, name)(gradient.tensor(data), 2, **options)
    assert isinstance(ours, tuple)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our.numpy(), their.numpy())
