"""`utils.swap_tensors`: what names hold stays, and what it is changes."""

from __future__ import annotations

from typing import Any

import pytest

import gradient

swap: Any = gradient.utils.swap_tensors  # type: ignore[attr-defined]


def test_values_dtypes_and_gradients() -> None:
    a, b = gradient.ones(2, requires_grad=True), gradient.zeros(3, dtype=gradient.int64)
    (a * 3).sum().backward()
    held = [a]
    swap(a, b)
    assert held[0] is a and a.tolist() == [0, 0, 0] and a.dtype is gradient.int64
    assert not a.requires_grad and a.grad is None
    assert b.tolist() == [1, 1] and b.grad is not None and b.grad.tolist() == [3, 3]
    (b * 2).sum().backward()  # the leaf is the other tensor now
    assert b.grad.tolist() == [5, 5] and a.grad is None


def test_places_in_the_graph() -> None:
    x = gradient.ones(2, requires_grad=True)
    y, z = x * 2, gradient.zeros(2)
    swap(y, z)
    assert y.grad_fn is None and z.grad_fn is not None
    z.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2]


def test_parameters_of_a_module() -> None:
    layer, other = gradient.nn.Linear(2, 1), gradient.nn.Parameter(gradient.ones(1, 2))
    vars(other)["mark"] = "new"
    weight, before = layer.weight, layer.weight.tolist()
    optimizer = gradient.optim.SGD(layer.parameters(), lr=1.0)
    swap(layer.weight, other)
    assert layer.weight is weight and weight.tolist() == [[1, 1]] and other.tolist() == before
    assert vars(weight) == {"mark": "new"} and not vars(other)
    layer(gradient.ones(1, 2)).sum().backward()
    optimizer.step()
    assert layer.weight.tolist() == [[0, 0]]


def test_what_cannot_be_swapped() -> None:
    x = gradient.ones(2)
    with pytest.raises(TypeError, match="two tensors of one class, got Tensor and int"):
        swap(x, 3)
    with pytest.raises(TypeError, match="got Parameter and Tensor"):
        swap(gradient.nn.Parameter(x), x)
    view = x[:1]
    for pair in ((x, gradient.ones(1)), (gradient.ones(1), view)):
        with pytest.raises(RuntimeError, match="tensors without views"):
            swap(*pair)


@pytest.mark.parametrize("enter", [gradient.enable_grad, gradient.no_grad])
def test_views_of_leaves_and_under_no_grad_count(enter: Any) -> None:
    x = gradient.ones(2, requires_grad=True)
    with enter():
        view = x[:1]
    with pytest.raises(RuntimeError, match="tensors without views"):
        swap(x, gradient.zeros(2))
    del view
    swap(x, gradient.zeros(2))
    assert x.tolist() == [0, 0]
