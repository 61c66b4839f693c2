"""Compiled modules whose results are differentiated outside: gradients equal to eager's, bit for
bit, and everything that a graph allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.backends.numpy import rng
from support.small_modules import Recurrent, Tied, batches, conv_net, mlp

pytestmark = pytest.mark.cpu_only

Wrap = Callable[[Any], Any]


def eager(model: Any) -> Any:
    return model


def compiled(model: Any) -> Any:
    return gradient.compile(model, fullgraph=True)


def replayed(model: Any) -> int:
    return sum(s.replays for s in model.signatures.values())


def train(make: Callable[[], nn.Module], wrap: Wrap, steps: int, **options: Any) -> list[Any]:
    """As a PyTorch user does: the module is compiled, and nothing else."""
    gradient.manual_seed(1)
    module = make()
    model = wrap(module)
    optimizer = optim.AdamW(module.parameters(), lr=0.01)
    data = batches(isinstance(module, Tied), 5)
    losses = []
    for i in range(steps):
        x, y = data[i % 5]
        with gradient.autocast("cpu", gradient.bfloat16, enabled=options.get("autocast", False)):
            out = model(x)
        loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))
        if i % options.get("every", 1) == 0:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if wrap is not eager:
        assert replayed(model) >= steps - 4, model.explain()
    state = [*module.parameters(), *module.buffers()]
    return [losses, [t.tolist() for t in state], gradient.default_generator.offset]


@pytest.mark.parametrize("make", [mlp, conv_net, Tied, Recurrent], ids=lambda f: f.__name__)
def test_training_is_that_of_eager(make: Callable[[], nn.Module]) -> None:
    assert train(make, compiled, 12) == train(make, eager, 12)


@pytest.mark.parametrize("options", [{"autocast": True}, {"every": 3}], ids=str)
def test_autocast_and_accumulation(options: dict[str, Any]) -> None:
    assert train(mlp, compiled, 12, **options) == train(mlp, eager, 12, **options)


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 4))


class Two(nn.Module):
    """Two results, of which a program may use one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: gradient.Tensor) -> tuple[gradient.Tensor, gradient.Tensor]:
        return self.a(x).tanh(), self.b(x).sigmoid()


def one_result(model: Any, x: gradient.Tensor) -> None:
    model(x)[1].sum().backward()


def both_results(model: Any, x: gradient.Tensor) -> None:
    a, b = model(x)
    (a * b).sum().backward()


def doubled(g: gradient.Tensor) -> gradient.Tensor:
    return g * 2


def a_hook_on_a_parameter(model: Any, x: gradient.Tensor) -> None:
    handle = next(iter(model.parameters())).register_hook(doubled)
    model(x).sum().backward()
    handle.remove()


def inside_a_larger_graph(model: Any, x: gradient.Tensor) -> None:
    scale = gradient.full((8,), 0.5, requires_grad=True)
    model(x * scale).pow(2).sum().backward()
    next(iter(model.parameters())).grad += scale.grad.sum()


def two_calls_before_a_backward(model: Any, x: gradient.Tensor) -> None:
    first, second = model(x), model(x * 2)
    (first * second).sum().backward()


def results_that_are_dropped(model: Any, x: gradient.Tensor) -> None:
    for _ in range(6):
        model(x)
    model(x).sum().backward()


def first_one_result_then_the_other(model: Any, x: gradient.Tensor) -> None:
    model(x)[bool(x.sum() > 0)].sum().backward()


def a_second_backward(model: Any, x: gradient.Tensor) -> None:
    loss = model(x).pow(2).sum()
    loss.backward(retain_graph=True)
    loss.backward()


def a_gradient_penalty(model: Any, x: gradient.Tensor) -> None:
    parameters = [*model.parameters()]
    grads = gradient.autograd.grad(model(x).pow(2).sum(), parameters, create_graph=True)
    sum(g.pow(2).sum() for g in grads).backward()


def six_calls_at_a_time(model: Any, x: gradient.Tensor) -> None:
    sum(model(x * i).sum() for i in range(6)).backward()


def grads_of(use: Any, make: Any, wrap: Wrap, calls: int) -> list[Any]:
    gradient.manual_seed(3)
    module = make()
    model = wrap(module)
    found = []
    for _ in range(calls):
        module.zero_grad()
        use(model, gradient.randn(6, 8))
        found.append([None if p.grad is None else p.grad.tolist() for p in module.parameters()])
    assert wrap is eager or replayed(model) > 0, model.explain()
    return [found, [b.tolist() for b in module.buffers()]]


@pytest.mark.parametrize(
    ("use", "make"),
    [
        (one_result, Two),
        (both_results, Two),
        (a_hook_on_a_parameter, smooth),
        (inside_a_larger_graph, smooth),
        (two_calls_before_a_backward, smooth),
        (results_that_are_dropped, smooth),
    ],
)
def test_what_is_done_with_results(use: Any, make: Any) -> None:
    assert grads_of(use, make, compiled, 6) == grads_of(use, make, eager, 6)


@pytest.mark.parametrize(
    ("use", "make", "what"),
    [
        (a_second_backward, smooth, "second backward"),
        (a_gradient_penalty, smooth, "create_graph"),
        (six_calls_at_a_time, smooth, "more than 4"),
        (first_one_result_then_the_other, Two, "other results"),
    ],
)
def test_what_runs_eagerly_says_so(use: Any, make: Any, what: str) -> None:
    expected = grads_of(use, make, eager, 6)
    with pytest.warns(UserWarning, match=what):
        found = grads_of(use, make, compiled, 6)
    if use is a_gradient_penalty:  # whose sums come in another order
        for got, wanted in zip(leaves(found), leaves(expected), strict=True):
            assert got == pytest.approx(wanted, rel=1e-4, abs=1e-3)
    else:
        assert found == expected


def leaves(tree: Any) -> list[float]:
    return [x for each in tree for x in leaves(each)] if isinstance(tree, list) else [tree]


def test_a_parameter_that_is_overwritten_before_the_backward_pass_is_refused() -> None:
    module = smooth()
    model = compiled(module)
    x = gradient.randn(6, 8)
    for _ in range(4):
        model(x).sum().backward()
    loss = model(x).sum()
    with gradient.no_grad():
        module[3].weight.mul_(2)
    with pytest.raises(RuntimeError, match="overwrote it in place"):
        loss.backward()


def test_a_graph_is_freed_by_its_backward_pass() -> None:
    model = compiled(smooth())
    for _ in range(5):
        loss = model(gradient.randn(6, 8)).sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="freed"):
            loss.backward()


def test_kernels_loaded_between_two_recordings_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few numbers are drawn without kernels until something else loads them."""
    step = gradient.compile(lambda x: F.dropout(x, 0.5) + gradient.rand(3), fullgraph=True)
    x = gradient.ones(3)
    for loaded in (False, False, True, True, True):
        monkeypatch.setattr(rng, "_many", lambda n, loaded=loaded: loaded and n > 0)
        gradient.manual_seed(3)
        got = step(x)
        gradient.manual_seed(3)
        assert got.tolist() == (F.dropout(x, 0.5) + gradient.rand(3)).tolist()
    assert replayed(step) > 0
