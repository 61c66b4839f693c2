"""gradient.compile: training and inference equal to eager in every bit, and what is refused."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.distributions import Categorical, Normal
from gradient.errors import ArgumentError, IndexOutOfRange
from gradient.plan import PlanError
from gradient.plan.arguments import Arguments
from support.small_modules import Recurrent, Tied, batches, conv_net, mlp

pytestmark = pytest.mark.cpu_only

Step = Callable[..., Any]


def losses_of(
    make: Callable[[], nn.Module],
    make_optimizer: Callable[[Any], optim.Optimizer],
    wrap: Callable[[Step], Step],
    steps: int,
    *,
    clip: bool = True,
    zero: str = "inside",
    autocast: bool = False,
    decay: float = 1.0,
) -> list[Any]:
    """Train, and give back the losses, parameters, buffers, gradients and the generator's place."""
    gradient.manual_seed(1)
    model = make()
    optimizer = make_optimizer(model.parameters())
    tokens = isinstance(model, Tied)

    def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        if zero == "inside":
            optimizer.zero_grad()
        with gradient.autocast("cpu", gradient.bfloat16, enabled=autocast):
            out = model(x)
            loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    compiled = wrap(step)
    losses = []
    data = batches(tokens, 5)
    for i in range(steps):
        for group in optimizer.param_groups if decay != 1 else ():
            group["lr"] *= decay
        losses.append(compiled(*data[i % 5]).item())
        if zero == "outside":
            optimizer.zero_grad()
    if wrap is not eager:
        signature = next(iter(compiled.signatures.values()))  # type: ignore[attr-defined]
        assert signature.replays >= steps - 8, compiled.explain()  # type: ignore[attr-defined]
    state = [*model.parameters(), *model.buffers()]
    grads = [None if p.grad is None else p.grad.tolist() for p in model.parameters()]
    steps_taken = [s.get("step") for s in optimizer.state.values()]
    place = gradient.default_generator.offset
    return [losses, [t.tolist() for t in state], grads, steps_taken, place]


def eager(step: Step) -> Step:
    return step


def compiled(step: Step) -> Step:
    return gradient.compile(step, fullgraph=True)


ADAMW: Any = lambda p: optim.AdamW(p, lr=0.01)  # noqa: E731


@pytest.mark.parametrize("make", [mlp, conv_net, Tied, Recurrent], ids=lambda f: f.__name__)
def test_training_is_that_of_eager(make: Callable[[], nn.Module]) -> None:
    steps = 200 if make is not Recurrent else 30
    expected = losses_of(make, ADAMW, eager, steps)
    assert losses_of(make, ADAMW, compiled, steps) == expected


def test_fused_training_is_that_of_eager_within_rounding() -> None:
    pytest.importorskip("numba")
    made: list[Any] = []

    def fused(step: Step) -> Step:
        made.append(gradient.compile(step, fullgraph=True, fuse=True))
        return made[-1]

    sgd: Any = lambda p: optim.SGD(p, lr=0.1)  # noqa: E731
    losses, parameters, _, *counts = losses_of(Recurrent, sgd, eager, 16)
    own_losses, own_parameters, _, *own_counts = losses_of(Recurrent, sgd, fused, 16)
    np.testing.assert_allclose(own_losses, losses, rtol=1e-5)
    for got, expected in zip(own_parameters, parameters, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert own_counts == counts
    chains = re.search(r"(\d+) of them fused chains", made[0].explain())
    assert chains and int(chains[1]) > 0, made[0].explain()


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=gradient.tensor(0.01)),
        lambda p: optim.Lion(p, lr=gradient.tensor(0.01)),
        lambda p: optim.AdamW(p, lr=0.01, maximize=True),
        lambda p: optim.RMSprop(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
        lambda p: optim.Lion(p, lr=0.01, weight_decay=0.1),
        lambda p: optim.Adagrad(p, lr=0.01, lr_decay=0.1),
        lambda p: optim.Adadelta(p),
        lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
        lambda p: optim.Adamax(p, lr=0.01),
        lambda p: optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
        lambda p: optim.RAdam(p, lr=0.01),  # does something else from the sixth step on
        lambda p: optim.ASGD(p, lr=0.01, t0=3),
        lambda p: optim.Muon([q for q in p if q.ndim == 2], lr=0.01),
    ],
)
def test_optimisers_and_rates_that_change_at_each_step(make_optimizer: Any) -> None:
    made: list[Any] = []

    def kept(step: Step) -> Step:
        made.append(compiled(step))
        return made[-1]

    expected = losses_of(mlp, make_optimizer, eager, 14, decay=0.9)
    assert losses_of(mlp, make_optimizer, kept, 14, decay=0.9) == expected
    assert made[0].recompiles <= 1, made[0].explain()


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9),
    ],
)
def test_schedules_of_momentum_and_weight_decay(make_optimizer: Any) -> None:
    def run(wrap: Callable[[Step], Step]) -> list[Any]:
        gradient.manual_seed(0)
        model = mlp()
        optimizer = make_optimizer(model.parameters())
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=16)

        def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        each, losses, group = wrap(step), [], optimizer.param_groups[0]
        for i, (x, y) in enumerate(batches(False, 14)):
            group["weight_decay"] = 0.01 * i
            if i >= 9 and group.get("momentum") and not group.get("nesterov"):
                group["momentum"] = 0.0  # another plan: no buffers
            losses.append(each(x, y).item())
            schedule.step()
        if wrap is not eager:
            assert each.recompiles <= 1, each.explain()  # type: ignore[attr-defined]
        return [losses, [p.tolist() for p in model.parameters()]]

    assert run(compiled) == run(eager)


def rolled_back(optimizer: optim.Optimizer, saved: Any) -> None:
    optimizer.load_state_dict(saved)


def loaded_and_slowed(optimizer: optim.Optimizer, saved: Any) -> None:
    optimizer.load_state_dict(optimizer.state_dict())  # the same numbers, in other dicts
    optimizer.param_groups[0]["lr"] *= 0.1


def forgotten(optimizer: optim.Optimizer, saved: Any) -> None:
    optimizer.state.clear()


@pytest.mark.parametrize("change", [rolled_back, loaded_and_slowed, forgotten])
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_state_that_an_optimiser_is_given_is_used(name: str, change: Any) -> None:
    def run(wrap: Callable[[Step], Step]) -> list[Any]:
        gradient.manual_seed(0)
        model = mlp()
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(optim, name)(model.parameters(), lr=0.1, **options)

        def step(x: gradient.Tensor, y: gradient.Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        each, saved = wrap(step), None
        for i, (x, y) in enumerate(batches(False, 14)):
            if i == 3:
                saved = optimizer.state_dict()
                saved["param_groups"][0]["lr"] = 0.05
            if i == 8:
                change(optimizer, saved)
            each(x, y)
        return [p.tolist() for p in model.parameters()]

    assert run(compiled) == run(eager)


def test_an_optimiser_that_reads_values_says_so() -> None:
    expected = losses_of(mlp, optim.Adafactor, eager, 3)
    with pytest.warns(UserWarning, match="Adafactor.step reads the value"):
        assert losses_of(mlp, optim.Adafactor, gradient.compile, 3) == expected


class Counted(gradient.autograd.Function):
    """Twice the argument, in place, and where its maxima are."""

    @staticmethod
    def forward(ctx: Any, x: gradient.Tensor) -> Any:
        at = x.mul_(2).argmax(-1)
        ctx.mark_dirty(x)
        ctx.mark_non_differentiable(at)
        return x, at

    @staticmethod
    def backward(ctx: Any, g: gradient.Tensor, unused: gradient.Tensor) -> gradient.Tensor:
        return 2 * g


def test_a_function_that_marks_tensors_is_replayed_where_the_loss_keeps_its_graph() -> None:
    def run(wrap: Callable[[Step], Step]) -> list[Any]:
        gradient.manual_seed(0)
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
            loss = F.cross_entropy(Counted.apply(model(x) * 1)[0], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        each = wrap(step)
        return [each(x, y).item() for x, y in batches(False, 8)]

    assert run(compiled) == run(eager)


@pytest.mark.parametrize("zero", ["inside", "outside", "never"])
@pytest.mark.parametrize("options", [{"clip": False}, {"autocast": True}], ids=str)
def test_gradients_accumulate_and_are_dropped(zero: str, options: dict[str, Any]) -> None:
    expected = losses_of(mlp, ADAMW, eager, 12, zero=zero, **options)
    assert losses_of(mlp, ADAMW, compiled, 12, zero=zero, **options) == expected


def test_accumulation_over_two_batches() -> None:
    def run(wrap: Callable[[Step], Step]) -> list[Any]:
        gradient.manual_seed(0)
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        forward_backward = wrap(lambda x, y: F.cross_entropy(model(x), y).backward())
        for i, (x, y) in enumerate(batches(False, 20)):
            forward_backward(x, y)
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()
        return [p.tolist() for p in model.parameters()]

    assert run(compiled) == run(eager)


def replayed(function: Step) -> int:
    return sum(s.replays for s in function.signatures.values())  # type: ignore[attr-defined]


def test_modules_and_their_modes() -> None:
    gradient.manual_seed(0)
    model = mlp()
    fast: Any = gradient.compile(model, fullgraph=True)
    x = gradient.randn(6, 8)
    assert fast.training and [*fast.parameters()] == [*model.parameters()]
    for _ in range(2):
        for training in (True, False):
            fast.train(training)
            for _ in range(5):
                gradient.manual_seed(7)
                with gradient.no_grad():
                    got = fast(x)
                gradient.manual_seed(7)
                with gradient.no_grad():
                    assert got.tolist() == model(x).tolist()
    assert replayed(fast) >= 12 and fast.recompiles == 1
    assert "replayed" in fast.explain()


def test_each_signature_has_a_plan() -> None:
    @gradient.compile(fullgraph=True)
    def f(x: gradient.Tensor, factor: float, flag: bool = False) -> dict[str, Any]:
        return {"y": x * factor, "n": 3, "same": x, "pair": (x.sum(), flag)}

    for x in (gradient.ones(3), gradient.ones(2, 2), gradient.arange(4)):
        for factor in (2.0, 3.0):
            for _ in range(5):
                out = f(x, factor, flag=True)
                assert out["y"].tolist() == (x * factor).tolist() and out["same"] is x
                assert out["n"] == 3 and out["pair"][0] == x.sum() and out["pair"][1] is True
    assert replayed(f) == 12 and len(f.signatures) == 6  # type: ignore[attr-defined]


def test_zeros_of_two_signs_are_two_numbers() -> None:
    f = gradient.compile(lambda x, zero: x * zero, fullgraph=True)
    for zero in (0.0, -0.0):
        for _ in range(5):
            assert str(f(gradient.ones(1), zero).item()) == str(zero)


def test_keys_of_a_dict_that_are_equal_are_told_apart() -> None:
    compiled = gradient.compile(lambda x, weights: x * (2 if next(iter(weights)) is True else 3))
    x = gradient.ones(2)
    assert compiled(x, {1: None}).tolist() == [3, 3]
    assert compiled(x, {True: None}).tolist() == [2, 2]


@pytest.mark.parametrize("nested", [lambda key: key, lambda key: (key, 1)])
def test_a_tensor_may_be_a_key_of_a_dict(nested: Any) -> None:
    def multiply(x: Any, weights: dict[Any, float]) -> Any:
        ((key, weight),) = weights.items()
        return x * (key[0] if type(key) is tuple else key) * weight

    compiled = gradient.compile(multiply)
    x, keys = gradient.ones(2), [gradient.full((2,), float(i)) for i in range(4)]
    for key in keys * 3:
        assert compiled(x, {nested(key): 2.0}).tolist() == [2 * key[0].item()] * 2


@pytest.mark.parametrize("key", [lambda: np.int64(3), lambda: frozenset([1]), lambda: (300, "b")])
def test_equal_keys_of_a_dict_that_are_made_anew_share_a_plan(key: Any) -> None:
    held = key(), key()  # of two addresses
    first, second = (Arguments(({each: None},), {}).key for each in held)
    assert first == second and hash(first) == hash(second)


def test_results_of_one_call_are_not_those_of_the_next() -> None:
    f = gradient.compile(lambda x: x + 1, fullgraph=True)
    kept = [f(gradient.full((2,), float(i))) for i in range(6)]
    assert [t.tolist() for t in kept] == [[i + 1.0] * 2 for i in range(6)]


scale = 2.0


class Config:
    def __init__(self) -> None:
        self.scale = 2.0


def test_a_result_may_be_a_view_of_what_is_not_returned() -> None:
    step = gradient.compile(lambda x: (x * 2)[0].unbind(), fullgraph=True)
    found = [step(gradient.full((2, 2), float(i))) for i in range(5)]
    assert [[y.item() for y in each] for each in found] == [[2.0 * i] * 2 for i in range(5)]


def test_what_a_plan_depends_on_is_watched() -> None:
    """Globals, closure variables, attributes, hooks, `requires_grad`, replaced parameters."""
    global scale
    scale, config, box = 2.0, Config(), [1.0]
    layer = nn.Linear(2, 2)

    @gradient.compile(fullgraph=True)
    def f(x: gradient.Tensor) -> gradient.Tensor:
        with gradient.no_grad():
            return layer(x) * scale * config.scale + box[0]

    def expected(x: gradient.Tensor) -> list[Any]:
        with gradient.no_grad():
            return (layer(x) * scale * config.scale + box[0]).tolist()

    def check() -> None:
        for _ in range(5):
            x = gradient.randn(3, 2)
            assert f(x).tolist() == expected(x)

    check()
    scale = 3.0
    check()
    config.scale = 0.5
    check()
    box[0] = 5.0
    check()
    layer.weight = nn.Parameter(gradient.randn(2, 2))
    check()
    layer.weight.data = gradient.randn(2, 2)
    check()
    handle = layer.register_forward_hook(lambda module, args, out: out * 2)
    check()
    handle.remove()
    check()
    assert f.recompiles == 6  # type: ignore[attr-defined]


def test_hooks_and_higher_derivatives_in_a_step() -> None:
    def run(wrap: Callable[[Step], Step]) -> list[Any]:
        gradient.manual_seed(0)
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        model[0].weight.register_hook(lambda g: g * 0.5)

        def step(x: gradient.Tensor, y: gradient.Tensor) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            parameters = [*model.parameters()]
            grads = gradient.autograd.grad(loss, parameters, create_graph=True)
            penalty = sum((g * g).sum() for g in grads)
            loss.backward(retain_graph=True)
            (penalty * 0.1).backward()
            optimizer.step()
            return loss.detach(), penalty.detach()

        step = wrap(step)
        return [[t.item() for t in step(x, y)] for x, y in batches(False, 8)]

    assert run(compiled) == run(eager)


def test_a_result_has_the_graph_that_eager_leaves() -> None:
    w = gradient.ones(2, requires_grad=True)

    @gradient.compile(fullgraph=True)
    def f() -> gradient.Tensor:
        loss = (w * w).sum()
        loss.backward()
        return loss

    for _ in range(5):
        loss = f()
        assert loss.requires_grad
        with pytest.raises(RuntimeError, match="freed"):
            loss.backward()


def test_a_value_read_on_the_host_runs_eagerly_with_one_warning() -> None:
    def f(x: gradient.Tensor) -> float:
        return (x * 2).sum().item()

    line = f.__code__.co_firstlineno + 1
    fast = gradient.compile(f)
    assert fast(gradient.ones(2)) == 4.0
    with pytest.warns(
        UserWarning, match=rf": Tensor.item reads the value of the result of sum.*:{line}"
    ):
        assert fast(gradient.ones(2) * 2) == 8.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [fast(gradient.full((2,), float(i))) for i in range(4)] == [0.0, 4.0, 8.0, 12.0]
    assert "item" in fast.explain()  # type: ignore[attr-defined]
    strict = gradient.compile(f, fullgraph=True)
    strict(gradient.ones(2))
    with pytest.raises(PlanError, match="item"):
        strict(gradient.ones(2))


history: list[Any] = []
calls = 0


def _appends(x: gradient.Tensor) -> gradient.Tensor:
    history.append(1)
    return x * 2


def _counts(x: gradient.Tensor) -> gradient.Tensor:
    global calls
    calls += 1
    return x * 2


def _keeps(x: gradient.Tensor) -> gradient.Tensor:
    history[:] = [x * 2]
    return x * 2


def _random(x: gradient.Tensor) -> gradient.Tensor:
    import random

    return x * random.random()


def _clock(x: gradient.Tensor) -> gradient.Tensor:
    import time

    return x * time.perf_counter()


def _host_array(x: gradient.Tensor) -> gradient.Tensor:
    return x + gradient.tensor(np.random.default_rng().random(2).astype("f"))


def _writes_argument(x: gradient.Tensor) -> gradient.Tensor:
    return x.add_(1)


def _flips(x: gradient.Tensor) -> gradient.Tensor:
    import random

    return x.flip(0) if random.random() < 2 else x


numpy_draws = np.random.default_rng(0)


def _numpy_draws(x: gradient.Tensor) -> gradient.Tensor:
    return x * int(numpy_draws.integers(1, 9))


stream = iter([1.0] * 100)


def _advances(x: gradient.Tensor) -> gradient.Tensor:
    return x * next(stream)


outside = gradient.ones(2, requires_grad=True) * 2


def _graph_from_outside(x: gradient.Tensor) -> None:
    (outside * x).sum().backward(retain_graph=True)


def _view(x: gradient.Tensor) -> gradient.Tensor:
    return x[:1]


def _another_device(x: gradient.Tensor) -> gradient.Tensor:
    return x.to("handle")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_appends, "history"),
        (_counts, "calls"),
        (_keeps, "history|kept"),
        (_random, "draws Python's random"),
        (_flips, "draws Python's random"),
        (_numpy_draws, "draws numpy_draws"),
        (_advances, "stream is an iterator"),
        (_graph_from_outside, "graph was made outside"),
        (_host_array, "host makes"),
        (_clock, "the number"),
        (_writes_argument, "writes to an argument"),
        (_view, "view of an argument"),
        (_another_device, "handle|to_numpy|to reads"),
    ],
)
def test_what_a_replay_would_not_do_is_refused(function: Step, reason: str) -> None:
    import support.array_backends  # noqa: F401 (registers the device)

    history.clear()
    fast = gradient.compile(function)
    with pytest.warns(UserWarning, match=reason):
        for _ in range(5):
            fast(gradient.ones(2))
    assert replayed(fast) == 0


def test_inside_another_compiled_function_it_is_part_of_that() -> None:
    inner = gradient.compile(lambda x: x * 2, fullgraph=True)
    outer = gradient.compile(lambda x: inner(x) + 1, fullgraph=True)
    for _ in range(5):
        assert outer(gradient.ones(2)).tolist() == [3.0, 3.0]
    assert replayed(outer) == 2


def test_an_index_out_of_range_is_found_in_a_replay() -> None:
    embed = nn.Embedding(4, 2)

    @gradient.compile(fullgraph=True)
    def f(tokens: gradient.Tensor) -> gradient.Tensor:
        with gradient.no_grad():
            return embed(tokens)

    for _ in range(4):
        f(gradient.tensor([0, 3]))
    for wrong in (-1, 4):
        message = rf"embedding at .*: index {wrong} is out of bounds for dimension 0 with size 4"
        with pytest.raises(IndexOutOfRange, match=message):
            f(gradient.tensor([0, wrong]))


def _set(x: gradient.Tensor, at: gradient.Tensor) -> gradient.Tensor:
    x[at] = 1.0
    return x


PICKS: dict[str, Any] = {
    "index_select": lambda x, at: x.index_select(0, at),
    "gather": lambda x, at: x.gather(0, at.unsqueeze(1)),
    "scatter_add": lambda x, at: x.scatter_add(0, at.unsqueeze(1), x[:2]),
    "scatter": lambda x, at: x.scatter(0, at.unsqueeze(1), 2.0),
    "index_add": lambda x, at: x.index_add(0, at, x[:2]),
    "index_copy": lambda x, at: x.index_copy(0, at, x[:2]),
    "take": lambda x, at: x.take(at + 8),
    "index": lambda x, at: x[at],
    "setitem": lambda x, at: _set(x.clone(), at),
    "embedding": lambda x, at: F.embedding(at, x),
    "nll_loss": lambda x, at: F.nll_loss(x.t()[:2], at),
    "cross_entropy": lambda x, at: F.cross_entropy(x.t()[:2], at),
}


@pytest.mark.parametrize("name", PICKS)
def test_an_index_out_of_range_in_a_replay_is_of_the_op_that_users_know(name: str) -> None:
    x = gradient.arange(12.0).reshape(4, 3)
    f = gradient.compile(lambda at: PICKS[name](x, at), fullgraph=True)
    for _ in range(4):
        f(gradient.tensor([0, 3]))
    assert replayed(f) > 0
    with pytest.raises(IndexOutOfRange) as raised:
        f(gradient.tensor([0, 4]))
    where, _, said = str(raised.value).partition(": ")
    assert where.startswith(f"{name} at {__file__}:")
    assert re.fullmatch(r"index (4|12) is out of bounds for dimension [01] with size (4|12)", said)


def test_a_step_that_another_seed_starts_draws_that_seeds_numbers() -> None:
    f = gradient.compile(lambda: gradient.rand(3), fullgraph=True)
    for seed in (1, 1, 1, 1, 2, 3):
        gradient.manual_seed(seed)
        got = [f().tolist(), f().tolist()]
        gradient.manual_seed(seed)
        assert got == [gradient.rand(3).tolist(), gradient.rand(3).tolist()]


def test_a_plan_says_what_computes_each_call() -> None:
    pytest.importorskip("numba")
    layer = nn.Linear(64, 64)

    def run(fuse: bool) -> str:
        @gradient.compile(fullgraph=True, fuse=fuse)
        def f(x: gradient.Tensor) -> gradient.Tensor:
            with gradient.no_grad():
                return F.gelu(layer(x)).mul_(2)

        for _ in range(4):
            f(gradient.randn(50, 64))
        return f.explain(calls=True)  # type: ignore[attr-defined]

    plain, fused = run(False), run(True)
    computed = r"linear\(.*float32\[50, 64\].*12.5 KiB.* by numpy.dot, numpy.add .*"
    assert re.search(computed + r"test_compile.py:\d+", plain)
    assert re.search(r"exp\(.* by numpy.exp ", plain)  # GELU of few elements, in its pieces
    assert re.search(r"assign\(.* by the call before", plain)
    assert re.search(r"fused\(.*gelu mul>.* by the kernel fused", fused), fused


def test_probabilities_are_looked_at_in_every_replay() -> None:
    step = gradient.compile(lambda p, t: F.binary_cross_entropy(p, t), fullgraph=True)
    p, target = gradient.tensor([0.25, 0.5]), gradient.tensor([0.0, 1.0])
    for _ in range(4):
        assert step(p, target).item() == F.binary_cross_entropy(p, target).item()
    for wrong in (1.5, -0.5, float("nan")):
        with pytest.raises(ArgumentError, match=f"expected input from 0 to 1, got {wrong}"):
            step(gradient.tensor([0.5, wrong]), target)


def test_variances_are_looked_at_in_every_replay() -> None:
    step = gradient.compile(lambda x, var: F.gaussian_nll_loss(x, 2 * x, var), fullgraph=True)
    x = gradient.tensor([0.25, 0.5])
    for _ in range(4):
        var = gradient.rand(2)
        assert step(x, var).item() == F.gaussian_nll_loss(x, 2 * x, var).item()
    assert math.isnan(step(x, gradient.tensor([1.0, float("nan")])).item())
    with pytest.raises(ArgumentError, match="gaussian_nll_loss: var has negative entries"):
        step(x, gradient.tensor([1.0, -1.0]))


def test_bernoulli_looks_at_its_probabilities_in_every_replay() -> None:
    step = gradient.compile(lambda p: gradient.bernoulli(p), fullgraph=True)
    p = gradient.rand(100)
    for seed in range(4):
        gradient.manual_seed(seed)
        drawn = step(p)
        gradient.manual_seed(seed)
        assert gradient.equal(drawn, gradient.bernoulli(p))
    for wrong in (1.5, -0.5, float("nan")):
        with pytest.raises(ArgumentError, match="bernoulli: expected probabilities from 0 to 1"):
            step(p.masked_fill(p == p.max(), wrong))


def test_normal_looks_at_its_deviations_in_every_replay() -> None:
    step = gradient.compile(lambda mean, std: gradient.normal(mean, std), fullgraph=True)
    for seed in range(4):
        mean, std = gradient.randn(5), gradient.rand(5)
        gradient.manual_seed(seed)
        drawn = step(mean, std)
        gradient.manual_seed(seed)
        assert gradient.equal(drawn, gradient.normal(mean, std))
    for wrong in (-0.5, float("nan")):
        with pytest.raises(ArgumentError, match="normal: expected std >= 0"):
            step(gradient.zeros(5), gradient.full((5,), wrong))


def test_a_quantile_that_is_a_number_can_be_recorded() -> None:
    step = gradient.compile(lambda x: x.quantile(0.3, dim=1) + x.nanquantile(0.5), fullgraph=True)
    for _ in range(4):
        x = gradient.randn(3, 5)
        assert gradient.equal(step(x), x.quantile(0.3, dim=1) + x.nanquantile(0.5))


def test_distributions_check_their_arguments_in_every_replay() -> None:
    def policy(mean: gradient.Tensor, scale: gradient.Tensor, x: gradient.Tensor) -> Any:
        return Normal(mean, scale).log_prob(x).sum() - Categorical(logits=mean).entropy()

    step = gradient.compile(policy, fullgraph=True)
    good = gradient.tensor([0.5, -1.0]), gradient.ones(2), gradient.tensor([0.0, 2.0])
    for _ in range(4):
        assert step(*good).item() == policy(*good).item()
    assert replayed(step) > 0
    nothing = gradient.tensor([0.5, float("nan")])
    for i, wrong, message in (
        (0, nothing, "Normal: expected loc to be real"),
        (1, gradient.tensor([1.0, -1.0]), "Normal: expected scale to be greater than 0"),
        (2, nothing, "Normal: expected a value that is"),
    ):
        arguments = (*good[:i], wrong, *good[i + 1 :])
        for run in (step, policy):
            with pytest.raises(ArgumentError, match=message):
                run(*arguments)


def test_determinants_and_cholesky_factors_in_a_replay() -> None:
    def evidence(x: gradient.Tensor) -> gradient.Tensor:
        matrix = x @ x.T + 100 * gradient.eye(len(x))
        lower = gradient.linalg.cholesky(matrix)
        sign, log_det = gradient.slogdet(x)
        return lower.diagonal().log().sum() + gradient.logdet(matrix) + sign * log_det

    def step(x: gradient.Tensor) -> tuple[gradient.Tensor, gradient.Tensor]:
        x = x.clone().requires_grad_()
        found = evidence(x)
        return found.detach(), gradient.autograd.grad(found, x)[0]

    run = gradient.compile(step, fullgraph=True)
    x = gradient.randn(70, 70)  # more than what the host may make anew in each run
    for sign in (1, 1, 1, 1, -1):
        x = x * gradient.tensor([sign, *[1] * 69])
        for mine, wanted in zip(run(x), step(x), strict=True):
            assert mine.tolist() == wanted.tolist()
    assert replayed(run) > 0


def test_hooks_on_saved_tensors_around_a_call_are_called() -> None:
    w = gradient.tensor([2.0, 3.0], requires_grad=True)

    @gradient.compile
    def loss(x: Any) -> Any:
        return (w * x).sin().sum()

    def slope() -> Any:
        w.grad = None
        loss(gradient.tensor([0.5, 0.25])).backward()
        return w.grad.tolist()

    plain = [slope() for _ in range(5)]
    with gradient.autograd.graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t):
        hooked = slope()
    assert hooked != plain[0] and plain == [plain[0]] * 5
    assert slope() == plain[0]


def test_a_whole_step_whose_result_can_still_be_differentiated() -> None:
    def run(wrap: Callable[[Step], Step]) -> list[Any]:
        w = gradient.tensor([1.0, 2.0], requires_grad=True)
        optimizer = optim.SGD([w], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            (w * x).square().sum().backward()
            optimizer.step()
            return (w * x).sin()

        step, found = wrap(step), []
        for i in range(8):
            y = step(gradient.tensor([0.5, float(i)]))
            if i in (1, 4, 6):
                y.sum().backward()
            found.append((y.tolist(), w.tolist(), w.grad.tolist()))
        assert "5 replayed" in getattr(step, "explain", lambda: "5 replayed")()
        return found

    assert run(gradient.compile) == run(lambda step: step)


@pytest.mark.parametrize("zero", [True, False], ids=["zero_grad()", "old gradients stay"])
@pytest.mark.parametrize("frozen", [nn.Parameter, gradient.Tensor], ids=["parameter", "tensor"])
def test_a_frozen_leafs_old_gradient(frozen: Any, zero: bool) -> None:
    """It is dropped by `zero_grad()`, and used by the optimiser, whether or not one was there when
    the frozen step was recorded."""

    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        gradient.manual_seed(0)
        made = gradient.ones(4)
        w = nn.Parameter(made) if frozen is nn.Parameter else made.requires_grad_()
        v = gradient.ones(4, requires_grad=True)
        optimizer = optim.SGD([w, v], lr=0.1)

        @wrap
        def step(x: gradient.Tensor) -> gradient.Tensor:
            if zero:
                optimizer.zero_grad()
            else:
                v.grad = None
            loss = ((w * x).sum() * (v * x).sum()).square()
            loss.backward()
            optimizer.step()
            return loss.detach()

        found = []
        for i in range(30):
            w.requires_grad_(i // 5 % 2 == 1)
            if i == 12 and not zero:
                w.grad = None
            step(gradient.full((4,), 0.1))
            grad = None if w.grad is None else w.grad.tolist()
            found.append((w.tolist(), v.tolist(), grad))
        return found

    assert run(gradient.compile(fullgraph=True)) == run(lambda f: f)


CHECKED_VALUES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "one_hot": (
        lambda x: nn.functional.one_hot(x, 5) * 1.0,
        [gradient.tensor([[0, 4], [1, 1]]), gradient.tensor([[2, 3], [4, 0]])],
    ),
    "embedding_bag": (
        lambda x: nn.functional.embedding_bag(
            gradient.arange(7), gradient.arange(21.0).reshape(7, 3), x
        ),
        [gradient.tensor([0, 2, 2, 6]), gradient.tensor([0, 0, 5, 7])],
    ),
    "ctc_loss": (
        lambda x: nn.functional.ctc_loss(
            gradient.arange(60.0).sin().reshape(5, 3, 4).log_softmax(-1),
            gradient.tensor([[1, 2], [3, 3], [2, 1]]), x, x.clamp(max=2), reduction="none",
        ),
        [gradient.tensor([5, 4, 3]), gradient.tensor([2, 5, 0])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED_VALUES)
def test_values_that_are_checked_are_no_part_of_a_plan(name: str) -> None:
    """Classes, offsets and lengths: a replay looks at those that it is given."""
    function, given = CHECKED_VALUES[name]
    fast = gradient.compile(function, fullgraph=True)
    for x in (*given, *given, *given):
        gradient.testing.assert_close(fast(x), function(x))
    with pytest.raises((ArgumentError, IndexOutOfRange), match="classes|out of bounds|from 0 to"):
        fast(given[0] + 9)


def test_a_loss_beside_an_expanded_target() -> None:
    """Of the operand in rows NumPy gives an array, of the other one a number."""

    def loss(x: gradient.Tensor) -> gradient.Tensor:
        return F.mse_loss(x, x[:1].expand(8, -1, -1))

    compiled, x = gradient.compile(loss, fullgraph=True), gradient.randn(8, 40, 50)
    for _ in range(4):
        assert compiled(x).item() == pytest.approx(loss(x).item(), rel=1e-6)


def test_classes_and_lengths_are_checked_in_a_replay() -> None:
    def classes(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        return (x * F.one_hot(y, 3)).sum()

    def texts(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        steps = gradient.full((2,), 6, dtype=gradient.long)
        return F.ctc_loss(x.log_softmax(-1), y, steps, (y != 0).sum(1) + y[:, 0] // 9)

    for function, x, first, other, wrong in (
        (classes, gradient.randn(2, 3), [0, 1], [2, 2], [0, 3]),
        (texts, gradient.randn(6, 2, 12), [[1, 2], [3, 0]], [[4, 4], [0, 0]], [[9, 2], [1, 1]]),
    ):
        compiled = gradient.compile(function, fullgraph=True)
        for y in (first, first, first, other):
            y = gradient.tensor(y)
            assert compiled(x, y).item() == pytest.approx(function(x, y).item(), rel=1e-6)
        with pytest.raises(ArgumentError, match="from 0 to 2"):
            compiled(x, gradient.tensor(wrong))
