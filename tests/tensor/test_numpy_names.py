"""NumPy's names of arguments, which PyTorch takes beside its own; and errors of other names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import gradient
from gradient.autograd.forwarding import forwarded

X = gradient.tensor([[3.0, 1.0, 2.0], [5.0, 4.0, 6.0]])
AT = gradient.tensor([[0, 0, 0]])

SAME: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "sum": (lambda: X.sum(axis=0, keepdims=True), lambda: X.sum(0, True)),
    "sum of several": (lambda: X.sum(axis=(0, 1)), lambda: X.sum((0, 1))),
    "mean as a function": (lambda: gradient.mean(X, axis=1), lambda: X.mean(1)),
    "std": (lambda: X.std(axis=1, correction=0), lambda: X.std(1, correction=0)),
    "max": (lambda: X.max(axis=1).values, lambda: X.max(1).values),
    "argmax": (lambda: gradient.argmax(X, axis=1), lambda: X.argmax(1)),
    "aminmax": (lambda: X.aminmax(axis=0)[0], lambda: X.amin(0)),
    "unsqueeze": (lambda: X.unsqueeze(axis=0), lambda: X[None]),
    "softmax": (lambda: gradient.softmax(X, axis=1), lambda: X.softmax(1)),
    "sort": (lambda: X.sort(axis=0, descending=True).values, lambda: X.sort(0, True).values),
    "gather": (lambda: X.gather(axis=0, index=AT), lambda: X.gather(0, AT)),
    "cumsum_": (lambda: X.clone().cumsum_(axis=1), lambda: X.cumsum(1)),
    "index_add_": (
        lambda: X.clone().index_add_(axis=0, index=AT[0], source=gradient.ones(3, 3)),
        lambda: X.index_add(0, AT[0], gradient.ones(3, 3)),
    ),
    "cat": (lambda: gradient.cat([X, X], axis=1), lambda: gradient.cat([X, X], 1)),
    "stack": (lambda: gradient.stack([X, X], axis=1), lambda: gradient.stack([X, X], 1)),
    "first operand": (lambda: gradient.exp(x=X), lambda: X.exp()),
    "both operands": (lambda: gradient.mul(x1=X, x2=2), lambda: X * 2),
    "operands and an option": (lambda: gradient.add(x1=X, x2=X, alpha=3), lambda: X + X * 3),
}


@pytest.mark.parametrize("name", SAME)
def test_numpys_names_are_taken(name: str) -> None:
    by_numpys_name, by_position = SAME[name]
    assert gradient.equal(by_numpys_name(), by_position())


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown": (lambda: X.sum(foo=1), "Tensor.sum: .* among dim, keepdim, dtype, got 'foo'"),
    "unknown of a function": (lambda: gradient.exp(X, dim=0), "expected .* among input, got 'dim'"),
    "twice": (lambda: X.sum(0, axis=1), "Tensor.sum: expected dim once, got axis=, too"),
    "left out": (lambda: X.unsqueeze(), r"Tensor.unsqueeze\(\) missing 1 required .* 'dim'"),
    "left out beside another": (lambda: X.gather(index=AT), r"missing 1 required .* 'dim'"),
    "too many": (lambda: X.unsqueeze(0, 1), "takes .* 2 positional arguments but 3 were given"),
    "no tensor": (lambda: gradient.sum(3), "sum: expected a Tensor as input, got int"),
    "no tensor by NumPy's name": (lambda: gradient.exp(x=3), "a Tensor as input, got int"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_the_argument(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        call()


def required(function: Any) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    return [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]


@pytest.mark.parametrize(
    "name", [n for n in dir(gradient.Tensor) if hasattr(getattr(gradient.Tensor, n), "__wrapped__")]
)
def test_an_argument_that_is_left_out_is_missed(name: str) -> None:
    """The stand-in for it reaches no method that would take it for a value."""
    method = getattr(gradient.Tensor, name)
    if name not in dir(gradient.Tensor) or len(required(method)) < 2:
        return
    with pytest.raises(TypeError, match="missing"):
        method(X)


def test_a_node_says_where_the_user_called() -> None:
    x = gradient.ones(3, requires_grad=True)
    for y in (gradient.exp(x), gradient.mul(x, x), gradient.mul(x1=x, x2=x), x.sum(axis=0)):
        assert y.grad_fn.location[0].co_filename == __file__


def test_signature_and_help_are_the_functions_own() -> None:
    assert list(inspect.signature(gradient.Tensor.sum).parameters) == [
        "self",
        "dim",
        "keepdim",
        "dtype",
    ]
    assert gradient.Tensor.sum.__doc__.startswith("The sum of the elements.")


def test_a_call_that_fails_is_not_run_twice() -> None:
    calls = []

    @forwarded
    def fails(input: Any, dim: int = 0) -> None:
        calls.append(dim)
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own") as caught:
        fails(X, 1)
    assert calls == [1]
    assert caught.value.__context__ is None
