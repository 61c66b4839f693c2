"""Attributes that a compiled function sets to tensors: a replay sets them, too."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import gradient
from gradient import nn, optim

pytestmark = pytest.mark.cpu_only


class Balanced(nn.Module):
    """A module that keeps part of its loss, and what it saw last."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.balance: Any = None

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        self.balance = y.square().mean()
        self.seen = y.detach()
        return y.sum() + self.balance


def step_of(model: nn.Module) -> Any:
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def test_of_a_step_are_those_of_an_eager_one():
    model = Balanced()
    other = copy.deepcopy(model)
    compiled, eager = gradient.compile(step_of(model), fullgraph=True), step_of(other)
    kept = []
    for _ in range(6):
        x = gradient.randn(5, 4)
        assert compiled(x).tolist() == eager(x).tolist()
        assert model.balance.tolist() == other.balance.tolist()
        assert model.seen.tolist() == other.seen.tolist()
        assert model.balance.requires_grad and not model.seen.requires_grad
        kept.append((model.balance, model.balance.tolist(), model.seen, model.seen.tolist()))
    assert "3 replayed" in compiled.explain()
    for balance, value, seen, values in kept:  # no later replay overwrote them
        assert balance.tolist() == value and seen.tolist() == values
    assert len({id(balance) for balance, *_ in kept}) == len(kept)


def test_without_gradients_and_of_a_tensor_that_is_returned_too():
    class Keeping(nn.Module):
        def forward(self, x: Any) -> Any:
            self.last = x * 2
            return self.last, self.last + 1

    model = Keeping()
    compiled = gradient.compile(model, fullgraph=True)
    for i in range(6):
        x = gradient.full((3,), float(i))
        doubled, more = compiled(x)
        assert doubled.tolist() == model.last.tolist() == [2.0 * i] * 3
        assert more.tolist() == [2.0 * i + 1] * 3


def test_set_to_none_between_calls():
    model = Balanced()
    compiled = gradient.compile(step_of(model), fullgraph=True)
    x, found = gradient.randn(5, 4), []
    for _ in range(6):
        compiled(x)
        found.append(model.balance.item())
        model.balance = None
    assert len(set(found)) == 6 and "3 replayed" in compiled.explain()
    for _ in range(6):  # now it is a tensor before the call
        compiled(x)
    assert model.balance is not None and "2 recorded" not in compiled.explain()


def test_a_function_that_looks_whether_one_is_none():
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cache: Any = None

        def forward(self, x: Any) -> Any:
            y = x + 1 if self.cache is None else x + 10
            self.cache = y * 1
            return y

    model = Once()
    compiled, x = gradient.compile(model), gradient.zeros(2)
    for _ in range(6):
        compiled(x)
    assert compiled(x).tolist() == [10.0, 10.0]
    model.cache = None
    assert compiled(x).tolist() == [1.0, 1.0]
    assert compiled(x).tolist() == [10.0, 10.0]


class Running(nn.Module):
    """Reads what it set in the call before."""

    def __init__(self) -> None:
        super().__init__()
        self.state = gradient.zeros(2)

    def forward(self, x: Any) -> Any:
        self.state = self.state * 0.5 + x
        return self.state.sum()


class Swapping(nn.Module):
    """Sets attributes to tensors that were there before."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = gradient.zeros(2), gradient.ones(2)

    def forward(self, x: Any) -> Any:
        self.a, self.b = self.b, self.a
        return x * 2


class WithGraph(nn.Module):
    """Keeps a tensor that the program differentiates outside."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        self.kept = y.mean()
        return y


@pytest.mark.parametrize("kind", [Running, Swapping, WithGraph])
def test_that_a_replay_cannot_set_are_named_in_a_warning(kind: type[nn.Module]):
    model = kind()
    other = copy.deepcopy(model)
    compiled = gradient.compile(model)
    results = []
    with pytest.warns(UserWarning, match=r"it changes \w*\.?(state|a|b|kept) \(another Tensor\)"):
        for i in range(6):
            x = gradient.full((2,), float(i))
            results.append((compiled(x).tolist(), other(x).tolist()))
    assert all(mine == theirs for mine, theirs in results)
    names = [name for name in ("state", "a", "b", "kept") if hasattr(model, name)]
    for name in names:
        assert getattr(model, name).tolist() == getattr(other, name).tolist()
