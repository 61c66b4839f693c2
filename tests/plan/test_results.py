"""What a compiled function returns: the same tensor twice, and tensors that share memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import gradient
from gradient import Tensor, nn, optim
from gradient.plan import PlanError

pytestmark = pytest.mark.cpu_only

w = nn.Parameter(gradient.full((4, 3), 2.0))


def parts(x: Tensor) -> Any:
    y = x * 2
    return y[1:], {"all": y, "turned": y.t()}, y.reshape(-1)[::2], y.detach()


def siblings(x: Tensor) -> Any:
    y = x * 2
    return y[:3], y[1:]


def apart(x: Tensor) -> Any:
    return (x * 2).chunk(2, 1)


def turned(x: Tensor) -> Any:
    y = (x * 2).t().exp()  # lies column by column
    return y[0], y


def freed(x: Tensor) -> Any:
    w.grad = None
    y = x * w
    y.sum().backward()
    return y, y.detach()


def outcome(function: Callable[[Tensor], Any]) -> list[Any]:
    found: list[Any] = []
    for i in range(6):
        result = function(gradient.arange(12.0).reshape(4, 3) + i)
        tensors = [*result[:1], *(result[1].values() if isinstance(result[1], dict) else ())]
        tensors += [t for t in result[1:] if isinstance(t, Tensor)]
        with gradient.no_grad():
            for k, t in enumerate(tensors):
                t.detach().add_(k + 1)  # which others see
        found.append([(t.tolist(), t.stride(), t.requires_grad) for t in tensors])
    return found


@pytest.mark.parametrize("function", [parts, siblings, apart, turned, freed])
def test_what_shares_memory_in_eager_does_so_here(function: Callable[[Tensor], Any]) -> None:
    compiled = gradient.compile(function, fullgraph=True)
    assert outcome(compiled) == outcome(function)
    (signature,) = compiled.signatures.values()
    assert signature.replays >= 3


def test_a_tensor_that_is_returned_twice_is_one_tensor() -> None:
    def twice(x: Tensor) -> Any:
        y = x * w
        return y, [y]

    compiled = gradient.compile(twice, fullgraph=True)
    x = gradient.ones(4, 3)
    for _ in range(5):
        w.grad = None
        a, (b,) = compiled(x)
        assert a is b
        (a * b).sum().backward()
        assert w.grad.tolist() == [[4.0] * 3] * 4  # type: ignore[union-attr]


def test_a_result_with_a_graph_and_what_shows_its_memory() -> None:
    compiled = gradient.compile(lambda x: ((y := x * w), y.detach()), fullgraph=True)
    for i in range(5):
        w.grad = None
        y, shown = compiled(gradient.full((4, 3), float(i)))
        shown += 1
        assert y.tolist() == [[2.0 * i + 1] * 3] * 4
        y.sum().backward()
        assert w.grad.tolist() == [[float(i)] * 3] * 4  # type: ignore[union-attr]


def test_views_that_both_have_a_graph_are_refused() -> None:
    def both(x: Tensor) -> Any:
        y = x * w
        return y, y[0]

    with pytest.raises(PlanError, match="share memory"):
        for _ in range(3):
            gradient.compile(both, fullgraph=True)
            strict = gradient.compile(both, fullgraph=True)
            for _ in range(4):
                strict(gradient.ones(4, 3))
    loose = gradient.compile(both)
    with pytest.warns(UserWarning, match="share memory"):
        for _ in range(4):
            y, first = loose(gradient.ones(4, 3))
    w.grad = None
    first.mul_(5)
    y.sum().backward()
    assert w.grad.tolist() == [[5.0] * 3, *[[1.0] * 3] * 3]  # type: ignore[union-attr]


def gradients(how: str) -> Callable[[Any], list[Any]]:
    """Runs of a step that returns its parameter's gradient, which is written to afterwards."""

    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        p = gradient.ones(4, requires_grad=True)

        @wrap
        def step(x: gradient.Tensor) -> Any:
            if how == "zeroed":
                optim.SGD([p]).zero_grad(set_to_none=False)
            elif how == "rebound" and p.grad is not None:
                p.grad = p.grad[:].zero_()
            elif how != "accumulated":
                p.grad = None
            (p * p * x).sum().backward()
            assert p.grad is not None
            p.grad.mul_(2)
            return p.grad[1:] if how == "view" else (p.grad, x * 2)

        found, kept = [], []
        for i in range(12):
            if how == "accumulated" and i == 7:
                p.grad = None
            made = step(gradient.full((4,), float(i)))
            returned = made if how == "view" else made[0]
            assert p.grad is not None
            found.append(returned is p.grad)
            returned.add_(1)
            kept.append(p.grad)
            found += [p.grad.tolist(), [each.tolist() for each in kept]]
        return found

    return run


@pytest.mark.parametrize("how", ["made", "accumulated", "zeroed"])
def test_a_returned_gradient_is_the_gradient(how: str) -> None:
    run = gradients(how)
    assert run(gradient.compile(fullgraph=True)) == run(lambda f: f)


@pytest.mark.parametrize(
    ("how", "why"),
    [("view", "a view of a gradient that it leaves"), ("rebound", "the memory of the one before")],
)
def test_gradients_that_share_memory_are_not_replayed(how: str, why: str) -> None:
    run = gradients(how)
    with pytest.warns(UserWarning, match=why):
        found = run(gradient.compile)
    assert found == run(lambda f: f)


def test_a_returned_gradient_that_was_only_looked_at() -> None:
    p = gradient.ones(2, requires_grad=True)

    @gradient.compile(fullgraph=True)
    def look(x: Tensor) -> Any:
        return x * 2, p.grad

    for i in range(8):
        p.grad = None
        (p * i).sum().backward()
        assert look(gradient.ones(2))[1] is p.grad


def test_a_returned_tensor_that_cannot_be_watched() -> None:
    @functools.cache
    def table(n: int) -> Tensor:
        return gradient.arange(n)

    @gradient.compile
    def look(x: Tensor) -> Any:
        return x * 2, table(3)

    with pytest.warns(UserWarning, match=r"returns a tensor of shape \(3,\) from before"):
        for _ in range(6):
            table.cache_clear()
            made = table(3)
            assert look(gradient.ones(2))[1] is made
