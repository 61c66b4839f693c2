"""Optimisers and schedules against PyTorch's: one problem, step by step, several options each."""

from __future__ import annotations

import math
import types
import warnings

import numpy as np
import pytest

import gradient
from gradient.optim import lr_scheduler as ours
from support.optimizer_table import TABLE, cases, label

torch = pytest.importorskip("torch")
theirs = torch.optim.lr_scheduler

pytestmark = pytest.mark.parity

STEPS = 30


@pytest.fixture(autouse=True)
def precise_numbers():
    """PyTorch keeps numbers of a parameter's state (ASGD's eta) in the default dtype; we do not."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Problem:
    """A small regression with a matrix, a vector (in some steps without gradient) and a scalar."""

    def __init__(self, lib, dtype="float64", device="cpu"):
        self.lib = lib
        rng = np.random.default_rng(7)

        def make(*shape):
            values = rng.standard_normal(shape)
            return lib.tensor(values.tolist(), dtype=getattr(lib, dtype), device=device)

        self.x, self.y = make(16, 5), make(16, 3)
        self.params = [make(5, 3), make(3), make()]
        for p in self.params:
            p.requires_grad_(True)

    def loss(self, step):
        matrix, vector, scalar = self.params
        bias = vector if step % 3 != 1 else vector.detach()
        error = (self.x @ matrix).tanh() * scalar + bias - self.y
        return (error * error).mean()

    def run(self, optimizer, steps, start=0, scheduler=None):
        for step in range(start, start + steps):
            optimizer.zero_grad()
            self.loss(step).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        return [p.detach().cpu().numpy().copy() for p in self.params]


CASES = cases("same")
IDS = [label(case) for case in CASES]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_same_trajectory(name, options, dtype, device):
    got, want = Problem(gradient, dtype, device), Problem(torch, dtype)
    rtol = 1e-12 if dtype == "float64" else 2e-5
    for _ in range(3):
        result = got.run(getattr(gradient.optim, name)(got.params, **options), STEPS // 3)
        expected = want.run(getattr(torch.optim, name)(want.params, **options), STEPS // 3)
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", dict(momentum=0.9, nesterov=True, weight_decay=0.1)),
        ("Adam", dict(weight_decay=0.1)),
        ("AdamW", dict(weight_decay=0.1)),
        ("AdamW", dict(weight_decay=0.1, maximize=True)),
    ],
)
def test_parameters_large_enough_for_kernels(name, options, dtype, device):
    """Large, transposed and strided ones in one group."""
    rng = np.random.default_rng(0)
    rtol = 1e-12 if dtype == "float64" else 1e-5
    results = []
    for lib, where in ((gradient, device), (torch, "cpu")):

        def make(values, lib=lib, where=where):
            return lib.tensor(values.astype(dtype), device=where)

        rng = np.random.default_rng(0)
        whole = make(rng.standard_normal((300, 700)))
        params = [whole, make(rng.standard_normal((200, 400))).T]
        params += [make(rng.standard_normal((300, 500)))[::2, 100:400], make(rng.random(70000))]
        for p in params:
            p.requires_grad_()
        optimizer = getattr(lib.optim, name)(params, lr=0.01, **options)
        for _ in range(10):
            for p in params:
                p.grad = make(rng.standard_normal(tuple(p.shape)))
            optimizer.step()
        results.append([p.detach().cpu().numpy() for p in params])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_sixteen_bit_parameters_follow_the_fused_reference(device):
    """Parameters and moments are bfloat16; a step is computed in float32, rounded once."""
    got, want = Problem(gradient, "bfloat16", device), Problem(torch, "bfloat16")
    optimizer = gradient.optim.AdamW(got.params, lr=0.05)
    reference = torch.optim.AdamW(want.params, lr=0.05, fused=True)
    for step in range(10):
        reference.zero_grad()
        want.loss(step).backward()
        for p, q in zip(got.params, want.params, strict=True):
            grad = None if q.grad is None else q.grad.float().tolist()
            p.grad = grad and gradient.tensor(grad, dtype=gradient.bfloat16, device=device)
        optimizer.step()
        reference.step()
        state = optimizer.state[got.params[0]]
        assert state["exp_avg"].dtype is gradient.bfloat16
        assert state["exp_avg_sq"].dtype is gradient.bfloat16
        for p, q in zip(got.params, want.params, strict=True):
            np.testing.assert_allclose(
                p.detach().float().cpu().numpy(), q.detach().float().numpy(), rtol=0.008, atol=1e-3
            )


@pytest.mark.parametrize(
    "options",
    [
        dict(lr=0.02),
        dict(lr=0.02, nesterov=False, momentum=0.8, weight_decay=0.3),
        dict(lr=0.02, adjust_lr_fn="match_rms_adamw", ns_steps=3),
        dict(lr=0.02, adjust_lr_fn="original", ns_coefficients=(2.0, -1.5, 0.5), ns_steps=8),
    ],
)
def test_muon(options, device):
    """PyTorch orthogonalizes in bfloat16, so each step agrees to some per cent."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in [(8, 8), (12, 5), (5, 12)]]
    got = [gradient.tensor(v, device=device, requires_grad=True) for v in start]
    want = [torch.tensor(v, requires_grad=True) for v in start]
    optimizer = gradient.optim.Muon(got, **options)
    reference = torch.optim.Muon(want, **options)
    for _ in range(5):
        for p, q in zip(got, want, strict=True):
            grad = rng.standard_normal(p.shape)
            p.grad = gradient.tensor(grad, device=device)
            q.grad = torch.tensor(grad)
        before = [q.detach().numpy().copy() for q in want]
        optimizer.step()
        reference.step()
        for p, q, b in zip(got, want, before, strict=True):
            change = np.linalg.norm(q.detach().numpy() - b)
            assert np.linalg.norm(p.detach().cpu().numpy() - q.detach().numpy()) < 0.05 * change
            with torch.no_grad():  # the next step starts from the same place
                q.copy_(torch.tensor(p.detach().cpu().numpy()))


@pytest.mark.parametrize(
    "options",
    [
        dict(lr=0.1, max_iter=6),
        dict(lr=0.3, history_size=3, max_iter=5),
        dict(line_search_fn="strong_wolfe", max_iter=6),
        dict(line_search_fn="strong_wolfe", lr=5.0, max_iter=4, history_size=2),
        dict(line_search_fn="strong_wolfe", max_eval=4),
        dict(line_search_fn="strong_wolfe", tolerance_grad=1e-2),
    ],
    ids=str,
)
def test_lbfgs(options, device):
    results = []
    for lib, problem in ((gradient, Problem(gradient, device=device)), (torch, Problem(torch))):
        optimizer = lib.optim.LBFGS(problem.params, **options)

        def closure(problem=problem, optimizer=optimizer):
            optimizer.zero_grad()
            loss = problem.loss(0)
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(3)]
        counts = [optimizer.state[problem.params[0]][key] for key in ("n_iter", "func_evals")]
        results.append((losses, counts, [p.detach().cpu().numpy() for p in problem.params]))
    (losses, counts, params), (their_losses, their_counts, their_params) = results
    # Each step builds on differences of those before, which lets rounding grow.
    np.testing.assert_allclose(losses, their_losses, rtol=1e-10)
    assert counts == their_counts
    for a, b in zip(params, their_params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p: -p.sum(),
        lambda p: p.abs().sum(),
        lambda p: 3 * (p - 1).abs().sum(),
        lambda p: (p.sum() + 1.8).sqrt(),
        lambda p: (p * p).sum() - (p + 1.5).clamp(min=-0.1).sqrt().sum(),
    ],
    ids=["linear", "l1", "l1 shifted", "nan along the line", "nan"],
)
def test_lbfgs_searches_along_straight_lines_and_nan(loss, device):
    results = []
    for lib, where in ((gradient, device), (torch, "cpu")):
        p = lib.tensor([0.3, -2.0, 1e-9], dtype=lib.float64, device=where, requires_grad=True)
        optimizer = lib.optim.LBFGS([p], line_search_fn="strong_wolfe")

        def closure(p=p, optimizer=optimizer):
            optimizer.zero_grad()
            value = loss(p)
            value.backward()
            return value

        losses = [optimizer.step(closure).item() for _ in range(3)]
        results.append((losses, p.tolist(), optimizer.state[p]["func_evals"]))
    (losses, values, count), (their_losses, their_values, their_count) = results
    np.testing.assert_allclose(losses, their_losses, rtol=1e-9)
    np.testing.assert_allclose(values, their_values, rtol=1e-9, atol=1e-12)
    assert count == their_count


def test_groups_have_their_own_options(device):
    def build(lib, problem):
        groups = [
            {"params": problem.params[:1], "lr": 0.2, "weight_decay": 0.0},
            {"params": problem.params[1:]},
        ]
        optimizer = lib.optim.AdamW(groups, lr=0.01, weight_decay=0.3)
        return optimizer, lib.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    got, want = Problem(gradient, device=device), Problem(torch)
    optimizer, scheduler = build(gradient, got)
    reference, reference_scheduler = build(torch, want)
    result = got.run(optimizer, STEPS, scheduler=scheduler)
    expected = want.run(reference, STEPS, scheduler=reference_scheduler)
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_state_moves_to_and_from_pytorch(name, options, device):
    """10 steps in one package, its state dict loaded into the other, 10 more: one trajectory."""
    whole = Problem(torch)
    optimizer = getattr(torch.optim, name)(whole.params, **options)
    halfway = whole.run(optimizer, 10)
    state = optimizer.state_dict()
    saved = types.SimpleNamespace(
        params=halfway,
        state={
            "state": {
                i: {k: v.clone() if torch.is_tensor(v) else v for k, v in entry.items()}
                for i, entry in state["state"].items()
            },
            "param_groups": state["param_groups"],
        },
    )
    expected = whole.run(optimizer, 10, start=10)

    got = Problem(gradient, device=device)
    with gradient.no_grad():
        for p, value in zip(got.params, saved.params, strict=True):
            p.copy_(gradient.tensor(value, device=device))
    optimizer = getattr(gradient.optim, name)(got.params, lr=123.0)
    optimizer.load_state_dict(_converted(saved.state, torch, gradient))
    back = _converted(optimizer.state_dict(), gradient, torch)
    result = got.run(optimizer, 10, start=10)
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)

    again = Problem(torch)
    with torch.no_grad():
        for p, value in zip(again.params, saved.params, strict=True):
            p.copy_(torch.tensor(value))
    optimizer = getattr(torch.optim, name)(again.params, lr=123.0)
    optimizer.load_state_dict(back)
    result = again.run(optimizer, 10, start=10)
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_state_dicts_have_pytorchs_keys(name, options, device):
    found = []
    for lib in (gradient, torch):
        problem = Problem(lib, device=device) if lib is gradient else Problem(lib)
        optimizer = getattr(lib.optim, name)(problem.params, **options)
        problem.run(optimizer, 4)
        state = optimizer.state_dict()
        found.append(
            ({i: set(entry) for i, entry in state["state"].items()}, state["param_groups"])
        )
    (ours, own), (theirs, groups) = found
    assert ours == theirs
    for a, b in zip(own, groups, strict=True):
        assert set(b) - set(a) == set()


def _converted(tree, source, target):
    if isinstance(tree, dict):
        return {k: _converted(v, source, target) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_converted(v, source, target) for v in tree]
    if isinstance(tree, source.Tensor):
        return target.tensor(tree.detach().cpu().numpy())
    return tree


def test_repr_is_the_same():
    for name in (row.name for row in TABLE if hasattr(torch.optim, row.name)):
        texts = []
        for lib in (gradient, torch):
            groups = [{"params": [lib.ones(2, 2, requires_grad=True)], "lr": 0.5}]
            groups.append({"params": [lib.ones(2, 2, requires_grad=True)]})
            texts.append(repr(getattr(lib.optim, name)(groups)))
        assert texts[0] == texts[1]


@pytest.mark.parametrize(("name", "options"), cases("refused"), ids=map(label, cases("refused")))
def test_both_refuse(name, options):
    for lib in (torch, gradient):
        with pytest.raises(ValueError):
            getattr(lib.optim, name)([lib.ones(2, 2, requires_grad=True)], **options)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda lib: lib.ones(2, requires_grad=True), TypeError),
        (lambda lib: [], ValueError),
        (lambda lib: [3], TypeError),
        (lambda lib: [{"params": {lib.ones(2, requires_grad=True)}}], TypeError),
        (lambda lib: [lib.ones(2, requires_grad=True) * 2], ValueError),
        (lambda lib: (lambda p: [{"params": [p]}, {"params": [p]}])(lib.ones(2)), ValueError),
        (lambda lib: [("a", lib.ones(2)), lib.ones(2)], ValueError),
        (
            lambda lib: [{"params": [("a", lib.ones(2))]}, {"params": [lib.ones(2)]}],
            ValueError,
        ),
    ],
    ids=["tensor", "empty", "number", "set", "non-leaf", "two-groups", "half-named", "names"],
)
def test_both_refuse_parameters(make, error):
    for lib in (torch, gradient):
        with pytest.raises(error):
            lib.optim.SGD(make(lib), lr=0.1)


def test_both_warn_of_duplicates():
    for lib in (torch, gradient):
        p = lib.ones(2, requires_grad=True)
        with pytest.warns(UserWarning, match="duplicate"):
            lib.optim.SGD([p, p], lr=0.1)


# -- schedules --

SCHEDULES = {
    "lambda": lambda m, o: m.LambdaLR(o, lambda t: 0.9**t),
    "lambda-list": lambda m, o: m.LambdaLR(o, [lambda t: 1 / (t + 1), lambda t: 0.9**t]),
    "multiplicative": lambda m, o: m.MultiplicativeLR(o, lambda t: 0.95 if t % 2 else 1.1),
    "step": lambda m, o: m.StepLR(o, 4, gamma=0.3),
    "multistep": lambda m, o: m.MultiStepLR(o, [12, 3, 7, 7], gamma=0.5),
    "constant": lambda m, o: m.ConstantLR(o, factor=0.25, total_iters=6),
    "linear": lambda m, o: m.LinearLR(o, 0.1, 0.8, total_iters=7),
    "linear-default": lambda m, o: m.LinearLR(o),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.93),
    "polynomial": lambda m, o: m.PolynomialLR(o, total_iters=20, power=1.7),
    "polynomial-default": lambda m, o: m.PolynomialLR(o),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, T_max=9, eta_min=0.01),
    "cosine-once": lambda m, o: m.CosineAnnealingLR(o, T_max=50),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 7, eta_min=0.02),
    "restarts-growing": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, T_mult=2),
    "onecycle": lambda m, o: m.OneCycleLR(o, 1.5, total_steps=60),
    "onecycle-linear": lambda m, o: m.OneCycleLR(
        o, [1.5, 0.7], epochs=6, steps_per_epoch=10, pct_start=0.45, anneal_strategy="linear"
    ),
    "onecycle-three": lambda m, o: m.OneCycleLR(
        o, 1.5, total_steps=60, three_phase=True, div_factor=10, final_div_factor=100
    ),
    "onecycle-still": lambda m, o: m.OneCycleLR(o, 1.5, total_steps=60, cycle_momentum=False),
    "cyclic": lambda m, o: m.CyclicLR(o, 0.1, 0.5, step_size_up=5),
    "cyclic-2": lambda m, o: m.CyclicLR(
        o, [0.1, 0.2], [0.5, 0.9], step_size_up=5, step_size_down=8, mode="triangular2"
    ),
    "cyclic-exp": lambda m, o: m.CyclicLR(
        o, 0.1, 0.5, step_size_up=5, mode="exp_range", gamma=0.97, cycle_momentum=False
    ),
    "cyclic-fn": lambda m, o: m.CyclicLR(
        o, 0.1, 0.5, step_size_up=5, scale_fn=lambda x: 1 / x, scale_mode="cycle"
    ),
    "sequential": lambda m, o: m.SequentialLR(
        o,
        [
            m.LinearLR(o, 0.1, total_iters=5),
            m.CosineAnnealingLR(o, T_max=20),
            m.ExponentialLR(o, 0.9),
        ],
        milestones=[5, 25],
    ),
    "sequential-restarts": lambda m, o: m.SequentialLR(
        o,
        [m.ConstantLR(o, 0.2, total_iters=3), m.CosineAnnealingWarmRestarts(o, 6), m.StepLR(o, 3)],
        milestones=[3, 22],
    ),
    "chained": lambda m, o: m.ChainedScheduler(
        [m.ConstantLR(o, 0.1, total_iters=4), m.ExponentialLR(o, 0.9), m.StepLR(o, 6, gamma=0.5)]
    ),
    "chained-cosine": lambda m, o: m.ChainedScheduler(
        [m.LinearLR(o, 0.2, total_iters=8), m.CosineAnnealingLR(o, T_max=40)]
    ),
}


def make_optimizer(lib, name="SGD", **options):
    groups = [
        {"params": [lib.ones(2, requires_grad=True)]},
        {"params": [lib.ones(3, requires_grad=True)], "lr": 0.05},
    ]
    defaults = {"lr": 0.4, "momentum": 0.9} if name == "SGD" else {"lr": 0.4}
    return getattr(lib.optim, name)(groups, **{**defaults, **options})


def walk(optimizer, scheduler, steps):
    rows = []
    for _ in range(steps):
        groups = optimizer.param_groups
        assert scheduler.get_last_lr() == [group["lr"] for group in groups]
        rows.append([group["lr"] for group in groups])
        rows.append(
            [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
        )
        optimizer.step()
        scheduler.step()
    return np.array(rows)


@pytest.mark.parametrize("optimizer_name", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_same_rates(name, optimizer_name):
    got, want = make_optimizer(gradient, optimizer_name), make_optimizer(torch, optimizer_name)
    result = walk(got, SCHEDULES[name](ours, got), 55)
    expected = walk(want, SCHEDULES[name](theirs, want), 55)
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_state_continues(name):
    """Save after 13 epochs, load into a fresh schedule: the rest is the same to the last bit."""
    optimizer = make_optimizer(gradient)
    scheduler = SCHEDULES[name](ours, optimizer)
    walk(optimizer, scheduler, 13)
    saved = {**scheduler.state_dict()}
    saved_optimizer = optimizer.state_dict()
    expected_groups = [dict(group) for group in saved_optimizer["param_groups"]]

    fresh = make_optimizer(gradient)
    fresh_scheduler = SCHEDULES[name](ours, fresh)
    fresh_scheduler.load_state_dict(saved)
    fresh.load_state_dict({"state": {}, "param_groups": expected_groups})
    np.testing.assert_array_equal(walk(fresh, fresh_scheduler, 30), walk(optimizer, scheduler, 30))


FROM_TORCH = [name for name in SCHEDULES if name != "cyclic-fn"]


@pytest.mark.parametrize("name", FROM_TORCH)
def test_schedule_state_of_pytorch_loads(name):
    reference = make_optimizer(torch)
    reference_scheduler = SCHEDULES[name](theirs, reference)
    walk(reference, reference_scheduler, 13)

    optimizer = make_optimizer(gradient)
    scheduler = SCHEDULES[name](ours, optimizer)
    assert scheduler.state_dict().keys() == reference_scheduler.state_dict().keys()
    scheduler.load_state_dict(reference_scheduler.state_dict())
    groups = [dict(group) for group in reference.state_dict()["param_groups"]]
    optimizer.load_state_dict({"state": {}, "param_groups": groups})
    got, want = walk(optimizer, scheduler, 30), walk(reference, reference_scheduler, 30)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-15)


def _same_state(got, want):
    """Whether the state dicts of two schedules are equal, but for the rounding of floats."""
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            _same_state(got[key], want[key])
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            _same_state(one, other)
    else:
        assert type(got) is type(want)
        assert got == (pytest.approx(want, rel=1e-11) if isinstance(want, float) else want)


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("name", [name for name in FROM_TORCH if "lambda" not in name])
def test_schedule_state_has_pytorchs_values(name, steps):
    states = []
    for lib, module in ((gradient, ours), (torch, theirs)):
        optimizer = make_optimizer(lib)
        scheduler = SCHEDULES[name](module, optimizer)
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
        states.append(scheduler.state_dict())
    _same_state(*states)


RESUMED = {
    "lambda": lambda m, o, e: m.LambdaLR(o, lambda t: 0.9**t, last_epoch=e),
    "multiplicative": lambda m, o, e: m.MultiplicativeLR(o, lambda t: 0.9, last_epoch=e),
    "step": lambda m, o, e: m.StepLR(o, 4, last_epoch=e),
    "multistep": lambda m, o, e: m.MultiStepLR(o, [4, 8], last_epoch=e),
    "constant": lambda m, o, e: m.ConstantLR(o, total_iters=4, last_epoch=e),
    "linear": lambda m, o, e: m.LinearLR(o, total_iters=6, last_epoch=e),
    "exponential": lambda m, o, e: m.ExponentialLR(o, 0.9, last_epoch=e),
    "polynomial": lambda m, o, e: m.PolynomialLR(o, total_iters=9, last_epoch=e),
    "cosine": lambda m, o, e: m.CosineAnnealingLR(o, T_max=9, last_epoch=e),
    "restarts": lambda m, o, e: m.CosineAnnealingWarmRestarts(o, 30, last_epoch=e),
    "onecycle": lambda m, o, e: m.OneCycleLR(o, 1.5, total_steps=60, last_epoch=e),
}


@pytest.mark.parametrize("last_epoch", [2, 3, 4])
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_by_last_epoch(name, last_epoch):
    rows = []
    for lib, module in ((gradient, ours), (torch, theirs)):
        optimizer = make_optimizer(lib)
        extra = {"max_lr": 1.5, "min_lr": 0.01, "max_momentum": 0.95, "base_momentum": 0.85}
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
            group["lr"] *= 0.7
            if name == "onecycle":
                group.update(extra)
        rows.append(walk(optimizer, RESUMED[name](module, optimizer, last_epoch), 12))
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "name", ["step", "multistep", "constant", "linear", "exponential", "cosine"]
)
def test_jump_to_an_epoch(name):
    rows = []
    for lib, module in ((gradient, ours), (torch, theirs)):
        optimizer = make_optimizer(lib)
        scheduler = SCHEDULES[name](module, optimizer)
        optimizer.step()
        rates = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for epoch in (3, 8, 1, 14, 0):
                scheduler.step(epoch)
                rates.append(scheduler.get_last_lr())
        rows.append(rates)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12)


def test_warm_restarts_take_fractions_of_epochs():
    rows = []
    for lib, module in ((gradient, ours), (torch, theirs)):
        optimizer = make_optimizer(lib)
        scheduler = module.CosineAnnealingWarmRestarts(optimizer, 3, T_mult=2)
        rates = []
        for i in range(80):
            scheduler.step(i / 4)
            rates.append(scheduler.get_last_lr())
        rows.append(rates)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(mode="max", factor=0.5, patience=1),
        dict(patience=2, threshold=0.05, threshold_mode="abs", cooldown=2),
        dict(mode="max", patience=0, threshold=0.3, threshold_mode="rel", min_lr=[0.1, 0.01]),
        dict(mode="max", patience=2, threshold=0.01, threshold_mode="abs", eps=0.1),
    ],
)
def test_plateau(options):
    rng = np.random.default_rng(3)
    metrics = list(1 / np.arange(1, 41) + 0.1 * rng.standard_normal(40))
    metrics[7] = math.nan
    rows = []
    for lib, module in ((gradient, ours), (torch, theirs)):
        optimizer = make_optimizer(lib)
        scheduler = module.ReduceLROnPlateau(optimizer, **options)
        rates = []
        for i, metric in enumerate(metrics):
            if i == 20:  # saved and loaded on the way
                state = scheduler.state_dict()
                scheduler = module.ReduceLROnPlateau(optimizer, **options)
                scheduler.load_state_dict(state)
            scheduler.step(lib.tensor(metric) if i % 2 else metric)
            rates.append(scheduler.get_last_lr())
        rows.append(rates)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12)


@pytest.mark.parametrize("num_cycles", [0.5, 1.25])
def test_warmup_cosine_is_that_of_transformers(num_cycles):
    transformers = pytest.importorskip("transformers")
    got, want = make_optimizer(gradient), make_optimizer(torch)
    scheduler = ours.WarmupCosineLR(got, 8, 50, num_cycles)
    reference = transformers.get_cosine_schedule_with_warmup(want, 8, 50, num_cycles)
    np.testing.assert_allclose(walk(got, scheduler, 50), walk(want, reference, 50), atol=1e-15)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda m, o: m.StepLR(None, 3), TypeError),
        (lambda m, o: m.LambdaLR(o, [lambda t: 1.0]), ValueError),
        (lambda m, o: m.MultiplicativeLR(o, 3), TypeError),
        (lambda m, o: m.ConstantLR(o, factor=1.5), ValueError),
        (lambda m, o: m.LinearLR(o, start_factor=0.0), ValueError),
        (lambda m, o: m.LinearLR(o, end_factor=1.5), ValueError),
        (lambda m, o: m.ExponentialLR(o, 0.9, last_epoch=3), KeyError),
        (lambda m, o: m.CosineAnnealingWarmRestarts(o, 0), ValueError),
        (lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, T_mult=0), ValueError),
        (lambda m, o: m.OneCycleLR(o, 0.1), ValueError),
        (lambda m, o: m.OneCycleLR(o, 0.1, total_steps=0), ValueError),
        (lambda m, o: m.OneCycleLR(o, 0.1, total_steps=5, pct_start=1.5), ValueError),
        (lambda m, o: m.OneCycleLR(o, 0.1, total_steps=5, anneal_strategy="up"), ValueError),
        (lambda m, o: m.OneCycleLR(o, [0.1], total_steps=5), ValueError),
        (lambda m, o: m.CyclicLR(o, 0.1, 0.2, mode="square"), ValueError),
        (lambda m, o: m.ReduceLROnPlateau(o, factor=1.0), ValueError),
        (lambda m, o: m.ReduceLROnPlateau(o, mode="best"), ValueError),
        (lambda m, o: m.ReduceLROnPlateau(o, threshold_mode="x"), ValueError),
        (lambda m, o: m.ReduceLROnPlateau(o, min_lr=[0.1]), ValueError),
        (lambda m, o: m.SequentialLR(o, [], []), ValueError),
        (lambda m, o: m.SequentialLR(o, [m.StepLR(o, 3)], [4]), ValueError),
        (lambda m, o: m.ChainedScheduler([]), ValueError),
        (lambda m, o: m.ChainedScheduler([m.StepLR(o, 3), m.ReduceLROnPlateau(o)]), ValueError),
    ],
)
def test_both_refuse_schedules(make, error):
    for lib, module in ((torch, theirs), (gradient, ours)):
        with pytest.raises(error):
            make(module, make_optimizer(lib))


def test_both_warn_of_a_wrong_order():
    for lib, module in ((torch, theirs), (gradient, ours)):
        scheduler = module.StepLR(make_optimizer(lib), 3)
        with pytest.warns(UserWarning, match=r"optimizer\.step\(\)"):
            scheduler.step()
