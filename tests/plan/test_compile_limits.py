"""How many plans gradient.compile keeps, when it records anew, and when it gives up."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.errors import ArgumentError
from gradient.plan.compile import VARIANTS, WORTH
from support.small_modules import batches, mlp

pytestmark = pytest.mark.cpu_only

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, fused=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
}


def trained(
    wrap: Callable[[Any], Any],
    make_optimizer: Callable[[Any], optim.Optimizer],
    steps: int,
    change: Callable[[int, nn.Module, optim.Optimizer], None],
    frozen: bool = False,
) -> tuple[list[Any], Any]:
    """The losses and parameters of a training in which `change` is called before each step, and
    what was compiled."""
    gradient.manual_seed(0)
    model = mlp()
    next(model.parameters()).requires_grad_(not frozen)
    optimizer = make_optimizer(model.parameters())

    @wrap
    def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    losses = []
    data = batches(False, 5)
    for i in range(steps):
        change(i, model, optimizer)
        losses.append(step(*data[i % 5]).item())
    return [losses, [p.tolist() for p in model.parameters()]], step


def strictly(step: Any) -> Any:
    return gradient.compile(step, fullgraph=True)


def eager(step: Any) -> Any:
    return step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_is_unfrozen_is_recorded(name: str) -> None:
    """Its state is born in a step, which is recorded in vain; those after it are replayed."""

    def unfreeze(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        if i == 6:
            next(model.parameters()).requires_grad_(True)

    expected, _ = trained(eager, OPTIMIZERS[name], 16, unfreeze, frozen=True)
    found, step = trained(strictly, OPTIMIZERS[name], 16, unfreeze, frozen=True)
    assert found == expected
    (signature,) = step.signatures.values()
    assert signature.replays >= 9 and step.recompiles == 1, step.explain()


@pytest.mark.parametrize("at", [1, 2, 6])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_is_frozen_is_recorded(name: str, at: int) -> None:
    """The first step after it takes the parameter's gradient away, and is like no later one."""

    def freeze(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        if i == at:
            next(model.parameters()).requires_grad_(False)

    expected, _ = trained(eager, OPTIMIZERS[name], 16, freeze)
    found, step = trained(strictly, OPTIMIZERS[name], 16, freeze)
    assert found == expected
    (signature,) = step.signatures.values()
    assert signature.replays >= 8, step.explain()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_was_frozen_for_a_while_has_a_count_of_its_own(name: str) -> None:
    """The plan from before, by which all had one count, is not for it."""

    def change(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        if i in (6, 12):
            next(model.parameters()).requires_grad_(i == 12)

    expected, _ = trained(eager, OPTIMIZERS[name], 24, change)
    found, step = trained(strictly, OPTIMIZERS[name], 24, change)
    assert found == expected
    (signature,) = step.signatures.values()
    assert signature.replays >= 12, step.explain()


def test_what_changed_is_told_once() -> None:
    layers, rates = [nn.Linear(2, 2)], {"rate": 2.0}
    fast = gradient.compile(lambda x: layers[0](x) * rates["rate"])
    x = gradient.ones(1, 2)
    for _ in range(4):
        fast(x)
    layers[0] = nn.Linear(2, 2)
    fast(x)
    rates["rate"] = 3.0
    for _ in range(3):
        fast(x)
    told = [line for line in fast.explain().splitlines() if "recorded anew" in line]  # type: ignore[attr-defined]
    assert told == [
        "  recorded anew: layers[0] (another Linear)",
        "  recorded anew: rates.rate (was 2.0, is 3.0)",
    ]


def test_arguments_of_pytorchs_compile_are_taken() -> None:
    model = mlp()
    for options in ({"mode": "reduce-overhead"}, {"backend": "eager", "options": {"a": 1}}):
        gradient.compile(model, **options)
    assert gradient.compile(model, disable=True) is model

    @gradient.compile(mode="max-autotune", fullgraph=True)
    def twice(x: gradient.Tensor) -> gradient.Tensor:
        return x * 2

    for _ in range(4):
        assert twice(gradient.ones(2)).tolist() == [2, 2]
    with pytest.raises(ArgumentError, match="compile: mode must be one of default, reduce-overh"):
        gradient.compile(model, mode="max")


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_an_optimiser_may_be_given_state_any_number_of_times(name: str) -> None:
    """A plan of a state that the optimiser no longer has is dropped, and that state with it."""
    times, every = VARIANTS + 3, WORTH + 4
    states: list[weakref.ref[Any]] = []

    def load(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        if i and i % every == 0:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            state = next(iter(optimizer.state.values()))
            states.append(weakref.ref(next(t for t in state.values() if hasattr(t, "array"))))

    expected, _ = trained(eager, OPTIMIZERS[name], every * times, load)
    states.clear()
    found, step = trained(strictly, OPTIMIZERS[name], every * times, load)
    assert found == expected
    (signature,) = step.signatures.values()
    assert len(signature.variants) == 1 and step.recompiles == times - 1, step.explain()
    assert signature.replays >= times * (WORTH + 1)
    gc.collect()
    assert sum(ref() is not None for ref in states[:-1]) == 0


def test_plans_that_do_not_pay_are_given_up() -> None:
    def load(i: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
        if i % 5 == 0:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    steps = 5 * (VARIANTS + 4)
    expected, _ = trained(eager, OPTIMIZERS["AdamW"], steps, load)
    with pytest.warns(UserWarning, match="was recorded .* groups or state .* changes"):
        found, step = trained(gradient.compile, OPTIMIZERS["AdamW"], steps, load)
    assert found == expected
    assert step.recompiles == VARIANTS - 1


def test_the_plans_that_were_used_last_are_kept() -> None:
    """Beyond `VARIANTS` values of what a function reads, the oldest plan goes."""
    box = [0.0]

    @gradient.compile(fullgraph=True)
    def f(x: gradient.Tensor) -> gradient.Tensor:
        return x * box[0]

    def use(value: float, calls: int) -> int:
        before = signature().replays if f.signatures else 0  # type: ignore[attr-defined]
        box[0] = value
        for i in range(calls):
            assert f(gradient.ones(2) + i).tolist() == [(1 + i) * value] * 2
        return int(signature().replays - before)

    def signature() -> Any:
        (found,) = f.signatures.values()  # type: ignore[attr-defined]
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in range(1, VARIANTS + 4):
            use(float(value), WORTH + 3)
            assert use(1.0, 2) == 2  # never the oldest
    assert len(signature().variants) == VARIANTS
    assert use(float(VARIANTS + 3), 2) == 2 and use(2.0, 3) == 1  # recorded twice again


def test_a_loss_scaler_reads_values_and_runs_eagerly() -> None:
    def weights(wrap: Callable[[Any], Any]) -> Any:
        gradient.manual_seed(0)
        model, scaler = mlp(), gradient.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @wrap
        def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss.detach()

        for x, y in batches(False, 6):
            step(x, y)
        return [p.tolist() for p in model.parameters()], scaler.get_scale()

    with pytest.warns(UserWarning, match="runs eagerly: .*reads the value of"):
        compiled = weights(gradient.compile)
    assert compiled == weights(lambda step: step)


def test_a_gradient_that_no_call_of_the_plan_knows_is_dropped_too() -> None:
    """zero_grad() drops the gradient of a parameter that this step does not use."""

    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        used, unused = nn.Parameter(gradient.ones(3)), nn.Parameter(gradient.ones(3))
        optimizer = optim.AdamW([used, unused], lr=0.1)

        @wrap
        def step(x: gradient.Tensor) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = (used * x).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        found = []
        for i in range(12):
            if i in (5, 9):
                unused.grad = gradient.ones(3)
            step(gradient.ones(3))
            found.append((used.tolist(), unused.tolist(), unused.grad is None))
        return found

    assert run(strictly) == run(lambda step: step)


@pytest.mark.parametrize("given", [[], {}], ids=["list", "dict"])
def test_what_changes_a_container_it_is_given_runs_eagerly(given: Any) -> None:
    def function(x: gradient.Tensor, seen: Any) -> gradient.Tensor:
        y = x * 2
        if isinstance(seen, list):
            seen.append(y)
        else:
            seen["x"], seen["y"] = x, y
        return y + 1

    compiled = gradient.compile(function)
    with pytest.warns(UserWarning, match="changes a list or dict that it is given"):
        for i in range(5):
            x, seen = gradient.full((2,), float(i)), copy.copy(given)
            assert compiled(x, seen).tolist() == [2.0 * i + 1] * 2
            kept = seen if isinstance(seen, list) else [seen["y"]]
            assert [t.tolist() for t in kept] == [[2.0 * i] * 2]
            assert isinstance(seen, list) or seen["x"] is x


@pytest.mark.parametrize("where", ["tensor", "retain_grad", "module"])
def test_a_hook_inside_is_called_as_often_as_in_eager(where: str) -> None:
    def run(wrap: Callable[[Any], Any]) -> Any:
        gradient.manual_seed(0)
        model, calls = mlp(), []
        if where == "module":
            model[0].register_full_backward_hook(lambda *given: calls.append(1))

        @wrap
        def forward(x: gradient.Tensor) -> Any:
            hidden = model[0](x)
            if where == "tensor":
                hidden.register_hook(lambda g: g * 2)
            if where == "retain_grad":
                hidden.retain_grad()
            return hidden, model[1:](hidden)

        found = []
        for x, _ in batches(False, 5):
            model.zero_grad()
            hidden, y = forward(x)
            y.square().sum().backward()
            grad = None if hidden.grad is None else hidden.grad.tolist()
            found.append([grad, [p.grad.tolist() for p in model.parameters()], len(calls)])
        return found

    with pytest.warns(UserWarning, match="calls a hook of something made in it"):
        compiled = run(gradient.compile)
    assert compiled == run(lambda forward: forward)
