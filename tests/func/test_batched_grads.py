"""`autograd.grad` with `is_grads_batched`: the gradients of a batch of vectors at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradient
from gradient import Tensor
from gradient.autograd import grad
from gradient.errors import AutogradError, ShapeError
from gradient.nn import functional as F
from gradient.testing import assert_close

CASES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "square": (lambda x: x * x, [(3,)]),
    "a number": (lambda x: x.exp().sum(), [(2, 3)]),
    "several outputs": (lambda a, b: ((a * b).sum(0), a.softmax(-1)), [(3, 4), (4,)]),
    "product": (lambda a, b: (a @ b).tanh(), [(3, 4), (4, 5)]),
    "index": (lambda x: x[[0, 0, 2]].cumsum(0), [(3, 2)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), [(3, 4), (4,), (4,)]),
    "conv2d": (lambda x, w: F.conv2d(x, w, padding=1), [(2, 3, 5, 5), (4, 3, 3, 3)]),
    "inv": (gradient.linalg.inv, [(3, 3)]),
    "an unused input": (lambda a, b: a * 2, [(3,), (2,)]),
}


def given(name: str, n: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    function, shapes = CASES[name]
    inputs = [gradient.randn(shape, dtype=gradient.float64, requires_grad=True) for shape in shapes]
    result = function(*inputs)
    outputs = list(result) if isinstance(result, tuple) else [result]
    return inputs, outputs, [gradient.randn(n, *o.shape, dtype=gradient.float64) for o in outputs]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_it_gives_the_gradients_of_each_vector(name: str, n: int) -> None:
    inputs, outputs, vectors = given(name, n)
    options: dict[str, Any] = {"retain_graph": True, "allow_unused": True}
    found = grad(outputs, inputs, vectors, is_grads_batched=True, **options)
    each = [grad(outputs, inputs, [v[i] for v in vectors], **options) for i in range(n)]
    for got, wanted in zip(found, zip(*each, strict=True), strict=True):
        if wanted[0] is None:
            assert got is None
        else:
            assert_close(got, gradient.stack(list(wanted)))
            assert not got.requires_grad


@pytest.mark.parametrize("name", ["square", "several outputs", "product", "conv2d"])
def test_they_are_differentiable(name: str) -> None:
    inputs, outputs, vectors = given(name, 3)
    found = grad(outputs, inputs, vectors, create_graph=True, is_grads_batched=True)
    again = grad([g.square().sum() for g in found], inputs, retain_graph=True)
    total: Any = 0
    for i in range(3):
        each = grad(outputs, inputs, [v[i] for v in vectors], create_graph=True)
        total = total + sum(g.square().sum() for g in each)
    for got, wanted in zip(again, grad(total, inputs), strict=True):
        assert_close(got, wanted)


def test_an_unused_input_has_zeros_for_each_vector() -> None:
    inputs, outputs, vectors = given("an unused input", 3)
    with pytest.raises(AutogradError, match="do not depend on input 1"):
        grad(outputs, inputs, vectors, retain_graph=True, is_grads_batched=True)
    found = grad(outputs, inputs, vectors, is_grads_batched=True, materialize_grads=True)
    assert found[1].tolist() == [[0, 0]] * 3


def test_the_graph_is_kept_only_if_asked_for() -> None:
    x = gradient.tensor([1.0, 2.0], requires_grad=True)
    y, eye = x * x, gradient.eye(2)
    grad(y, x, eye, retain_graph=True, is_grads_batched=True)
    with gradient.no_grad():
        assert grad(y, x, eye, is_grads_batched=True)[0].tolist() == [[2, 0], [0, 4]]
    with pytest.raises(AutogradError, match="freed by an earlier backward pass"):
        grad(y, x, eye, is_grads_batched=True)


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (None, AutogradError, "with is_grads_batched a batch of grad_outputs for each output"),
        ([None], AutogradError, "with is_grads_batched a batch of grad_outputs for each output"),
        (gradient.ones(2), ShapeError, r"gradient 0 has shape \(\)"),
        (gradient.ones(2, 3), ShapeError, r"gradient 0 has shape \(3,\)"),
    ],
)
def test_other_vectors_are_refused(vectors: Any, error: type, message: str) -> None:
    x = gradient.ones(2, requires_grad=True)
    with pytest.raises(error, match=message):
        grad(x * x, x, vectors, is_grads_batched=True)
