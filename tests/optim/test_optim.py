"""Optimisers and schedules by themselves: rules, groups, state, hooks, errors.

The comparison with PyTorch is in tests/parity/test_optim_parity.py.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import warnings

import numpy as np
import pytest

import gradient
from gradient.errors import ArgumentError, AutogradError, TypeMismatch
from gradient.optim import SGD, Adam, AdamW, Lion, Muon, Optimizer, lr_scheduler
from gradient.optim.muon import newton_schulz
from support.optimizer_table import TABLE, cases, label

MAKERS = {
    label((name, options)): functools.partial(getattr(gradient.optim, name), **options)
    for name, options in cases("learns")
}
every_optimizer = pytest.mark.parametrize("name", MAKERS)


def parameter(values, device, dtype="float64"):
    values = np.asarray(values)
    return gradient.tensor(
        values, dtype=getattr(gradient, dtype), device=device, requires_grad=True
    )


def numpy(tensor):
    return tensor.detach().cpu().numpy()


class Regression:
    """Fit x @ weight to y: a convex problem that every optimiser gets better at."""

    def __init__(self, device):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((32, 6))
        self.x = gradient.tensor(x, device=device)
        self.y = gradient.tensor(x @ rng.standard_normal((6, 4)), device=device)
        self.weight = parameter(rng.standard_normal((6, 4)), device)

    def loss(self):
        return ((self.x @ self.weight - self.y) ** 2).mean()

    def run(self, optimizer, steps):
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


@every_optimizer
def test_the_loss_falls(name, device):
    problem = Regression(device)
    losses = problem.run(MAKERS[name]([problem.weight]), 60)
    assert losses[-1] < 0.5 * losses[0]


@every_optimizer
def test_updates_are_in_place(name, device):
    """Views, detached tensors and tied weights see them; the parameter stays the same object."""
    p = parameter(np.ones((3, 4)), device)
    before = p.detach().clone()
    alias, row = p.detach(), p.detach()[1]
    p.grad = gradient.full_like(before, 0.5)
    MAKERS[name]([p]).step()
    assert p.is_leaf and p.requires_grad
    assert not np.array_equal(numpy(p), numpy(before))
    np.testing.assert_array_equal(numpy(alias), numpy(p))
    np.testing.assert_array_equal(numpy(row), numpy(p)[1])


@pytest.mark.parametrize("name", [name for name in MAKERS if not name.startswith("Muon")])
@pytest.mark.parametrize("made_by", ["tensor", "sum"])
def test_a_scalar_parameter(name, made_by, device):
    p = parameter(2.0, device)
    if made_by == "sum":  # on the CPU a scalar without memory of its own
        p = parameter([0.5, 1.5], device).sum().detach().requires_grad_()
    optimizer = MAKERS[name]([p])
    for _ in range(3):
        optimizer.zero_grad()
        (p * p).backward()
        optimizer.step()
    assert p.shape == () and p.item() < 2.0


@every_optimizer
def test_a_parameter_without_gradient_is_left_alone(name, device):
    used, unused = parameter(np.ones((2, 2)), device), parameter(np.ones((2, 2)), device)
    used.grad = gradient.ones_like(used).detach()
    optimizer = MAKERS[name]([used, unused])
    optimizer.step()
    np.testing.assert_array_equal(numpy(unused), np.ones((2, 2)))
    assert not optimizer.state.get(unused)


@pytest.mark.cpu_only
@every_optimizer
def test_memory_that_cannot_be_written(name):
    values = np.ones((2, 2))
    values.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from_numpy may warn of it
        p = gradient.from_numpy(values).requires_grad_()
    p.grad = gradient.ones(2, 2, dtype=gradient.float64)
    with pytest.raises(AutogradError, match="cannot be written .* clone\\(\\) it first"):
        MAKERS[name]([p]).step()


@every_optimizer
def test_a_graph_from_before_the_step_is_refused(name, device):
    """Backward through a weight that was stepped since would use the wrong values."""
    p = parameter(np.ones((2, 2)), device)
    loss = (p * p).sum()
    p.grad = gradient.ones_like(p).detach()
    MAKERS[name]([p]).step()
    with pytest.raises(AutogradError, match=r"then overwrote it in place") as error:
        loss.backward()
    assert str(error.value).count("test_optim.py:") == 2  # both lines are named


@pytest.mark.parametrize("kept_in", ["memory", "file"])
@every_optimizer
def test_saved_state_continues_to_the_last_bit(name, kept_in, device, tmp_path):
    whole = Regression(device)
    optimizer = MAKERS[name]([whole.weight])
    whole.run(optimizer, 7)
    state, weight = copy.deepcopy(optimizer.state_dict()), numpy(whole.weight).copy()
    if kept_in == "file":
        gradient.save(state, tmp_path / "optimizer.safetensors")
        state = gradient.load(tmp_path / "optimizer.safetensors")
    expected = whole.run(optimizer, 7)

    resumed = Regression(device)
    resumed.weight = parameter(weight, device)
    optimizer = MAKERS[name]([resumed.weight])
    optimizer.load_state_dict(state)
    assert resumed.run(optimizer, 7) == expected
    np.testing.assert_array_equal(numpy(resumed.weight), numpy(whole.weight))


def test_a_deep_copy_trains_the_copied_model(device):
    model = gradient.nn.Linear(3, 2).to(device)
    optimizer = AdamW(model.parameters(), lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    original = [model, optimizer, scheduler]
    model(gradient.ones(1, 3, device=device)).sum().backward()
    optimizer.step()
    before = numpy(model.weight).copy()
    model, optimizer, scheduler = copy.deepcopy(original)
    optimizer.step()
    scheduler.step()
    assert scheduler.optimizer is optimizer and optimizer.state[model.weight]["step"] == 2
    assert not np.array_equal(numpy(model.weight), before)
    np.testing.assert_array_equal(numpy(original[0].weight), before)
    assert original[1].param_groups[0]["lr"] == 0.1


def test_lion_is_the_paper_s_algorithm(device):
    """Chen et al. 2023, algorithm 2, in NumPy."""
    rng = np.random.default_rng(0)
    theta, m = rng.standard_normal((5, 3)), np.zeros((5, 3))
    p = parameter(theta, device)
    optimizer = Lion([p], lr=0.01, betas=(0.8, 0.95), weight_decay=0.3)
    for _ in range(10):
        g = rng.standard_normal((5, 3))
        p.grad = gradient.tensor(g, device=device)
        optimizer.step()
        c = 0.8 * m + 0.2 * g
        theta = theta - 0.01 * (np.sign(c) + 0.3 * theta)
        m = 0.95 * m + 0.05 * g
        np.testing.assert_allclose(numpy(p), theta, rtol=1e-12, atol=1e-13)


def closure_of(problem, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("kept_in", ["memory", "file"])
def test_lbfgs_goes_on_from_its_state(line_search_fn, kept_in, device, tmp_path):
    options = dict(lr=0.5, max_iter=3, history_size=4, line_search_fn=line_search_fn)
    whole = Regression(device)
    optimizer = gradient.optim.LBFGS([whole.weight], **options)
    first = optimizer.step(closure_of(whole, optimizer)).item()
    state, weight = copy.deepcopy(optimizer.state_dict()), numpy(whole.weight).copy()
    if kept_in == "file":
        gradient.save(state, tmp_path / "optimizer.safetensors")
        state = gradient.load(tmp_path / "optimizer.safetensors")
    expected = [optimizer.step(closure_of(whole, optimizer)).item() for _ in range(4)]
    assert expected[-1] < 1e-3 * first

    resumed = Regression(device)
    resumed.weight = parameter(weight, device)
    optimizer = gradient.optim.LBFGS([resumed.weight], **options)
    optimizer.load_state_dict(state)
    again = [optimizer.step(closure_of(resumed, optimizer)).item() for _ in range(4)]
    assert again == expected


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_lbfgs_stays_where_the_gradient_is_zero(line_search_fn, device):
    p = parameter([0.0, 0.0], device)
    optimizer = gradient.optim.LBFGS([p], tolerance_grad=-1.0, line_search_fn=line_search_fn)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0.0
    assert p.tolist() == [0.0, 0.0]


def test_lbfgs_says_what_it_needs(device):
    p, q = parameter([1.0], device), parameter([1.0], device)
    with pytest.raises(ArgumentError, match="LBFGS: expected one parameter group, got 2; put all"):
        gradient.optim.LBFGS([{"params": [p]}, {"params": [q]}])
    with pytest.raises(ArgumentError, match="line_search_fn must be one of strong_wolfe, or None"):
        gradient.optim.LBFGS([p], line_search_fn="wolfe")
    with pytest.raises(TypeMismatch, match=r"LBFGS.step: expected a function as closure, got None"):
        gradient.optim.LBFGS([p]).step(None)


def test_maximize_is_descent_on_the_negated_gradient(device):
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((5, 4, 3))
    makers = [getattr(gradient.optim, row.name) for row in TABLE]
    makers = [make for make in makers if "maximize" in inspect.signature(make).parameters]
    for make in makers:
        up, down = parameter(np.ones((4, 3)), device), parameter(np.ones((4, 3)), device)
        ascent, descent = make([up], lr=0.1, maximize=True), make([down], lr=0.1)
        for g in grads:
            up.grad = gradient.tensor(g, device=device)
            down.grad = gradient.tensor(-g, device=device)
            ascent.step()
            descent.step()
        np.testing.assert_array_equal(numpy(up), numpy(down))


@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (8, 32)])
def test_newton_schulz_makes_singular_values_alike(shape, device):
    x = matrix = np.random.default_rng(0).standard_normal(shape)
    orthogonal = newton_schulz(gradient.tensor(matrix, device=device))
    assert orthogonal.dtype is gradient.float32 and orthogonal.shape == shape

    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    np.testing.assert_allclose(numpy(orthogonal), x, atol=1e-4)

    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    values = np.diag(u.T @ numpy(orthogonal) @ vt.T)  # its singular vectors are the matrix's
    assert values.min() > 0.6 and values.max() < 1.3


def test_sixteen_bit_parameters_keep_sixteen_bit_state(device):
    p = parameter([1.0, 2.0], device, dtype="bfloat16")
    optimizer = AdamW([p], lr=0.1)
    p.grad = gradient.ones_like(p).detach()
    optimizer.step()
    assert p.dtype is gradient.bfloat16
    assert optimizer.state[p]["exp_avg"].dtype is gradient.bfloat16


def test_parameters_of_several_dtypes_in_one_group(device):
    params = [parameter([1.0], device, dtype) for dtype in ("float64", "float32", "bfloat16")]
    optimizer = AdamW(params, lr=0.125, weight_decay=0.0)
    for p in params:
        p.grad = gradient.ones_like(p).detach()
    optimizer.step()
    for p in params:
        assert abs(p.item() - 0.875) < 0.01


# -- groups, closures, hooks --


def test_groups_take_the_defaults_that_they_do_not_give(device):
    a, b, c = (parameter([1.0], device) for _ in range(3))
    optimizer = SGD([{"params": a, "lr": 1.0}, {"params": [b]}], lr=0.5, momentum=0.9)
    optimizer.add_param_group({"params": iter([c]), "momentum": 0.0})
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.5, 0.5]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9, 0.0]
    for p in (a, b, c):
        p.grad = gradient.ones_like(p).detach()
    optimizer.step()
    assert [p.item() for p in (a, b, c)] == [0.0, 0.5, 0.5]


def test_a_dict_given_for_a_group_is_not_changed(device):
    group = {"params": (p for p in [parameter([1.0], device)]), "lr": 1.0}
    SGD([group], lr=0.5)
    assert set(group) == {"params", "lr"}


def test_named_parameters(device):
    p, q = parameter([1.0], device), parameter([1.0], device)
    optimizer = SGD([("weight", p), ("bias", q)], lr=0.5)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_closure(device):
    p = parameter([3.0], device)
    optimizer = SGD([p], lr=0.1)

    def closure():
        assert gradient.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with gradient.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    assert p.item() == pytest.approx(2.4)
    assert SGD([p], lr=0.1).step() is None


def test_zero_grad(device):
    p, q = parameter([1.0], device), parameter([1.0], device)
    optimizer = SGD([p, q], lr=0.1)
    p.grad = kept = gradient.ones_like(p).detach()
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.item() == 0.0 and q.grad is None and not p.grad.requires_grad
    assert kept.item() == 0.0 and p.grad is kept  # in place: whoever holds the gradient sees it
    optimizer.zero_grad()
    assert p.grad is None


def test_learning_rate_in_a_tensor(device):
    p = parameter([1.0], device)
    lr = gradient.tensor(0.5)
    optimizer = SGD([p], lr=lr)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(2):
        p.grad = gradient.ones_like(p).detach()
        optimizer.step()
        scheduler.step()
    assert p.item() == 0.25
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == 0.125


class SignSGD(Optimizer):
    """A rule in gradient's form."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def update(self, params, group):
        for p in params:
            p.add_(p.grad.sign(), alpha=-group["lr"])


class TorchStyle(Optimizer):
    """The same rule in PyTorch's form."""

    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))

    @gradient.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["calls"] = self.state[p].get("calls", 0) + 1
                    p.add_(p.grad.sign(), alpha=-group["lr"])
        return loss


@pytest.mark.parametrize("kind", [SignSGD, TorchStyle])
def test_own_optimizers(kind, device):
    p = parameter([3.0, -2.0], device)
    optimizer = kind([p], lr=0.5)
    calls = []
    before = optimizer.register_step_pre_hook(lambda *args: calls.append("before"))
    optimizer.register_step_post_hook(lambda *args: calls.append("after"))
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    p.grad = gradient.tensor([4.0, -4.0], dtype=gradient.float64, device=device)
    optimizer.step()
    scheduler.step()
    before.remove()
    optimizer.step()
    assert numpy(p).tolist() == [2.25, -1.25]
    assert calls == ["before", "after", "after"]


def test_a_pre_hook_may_replace_the_arguments(device):
    p = parameter([1.0], device)
    optimizer = SGD([p], lr=0.1)
    optimizer.register_step_pre_hook(lambda self, args, kwargs: ((lambda: "replaced",), {}))
    assert optimizer.step() == "replaced"
    optimizer.register_step_pre_hook(lambda self, args, kwargs: "nonsense")
    with pytest.raises(RuntimeError, match=r"must return None or \(args, kwargs\)"):
        optimizer.step()


def test_state_dict_hooks(device):
    p = parameter([1.0], device)
    optimizer, calls = SGD([p], lr=0.1), []
    optimizer.register_state_dict_pre_hook(lambda self: calls.append("saving"))
    optimizer.register_state_dict_post_hook(lambda self, state: {**state, "note": 1})
    optimizer.register_state_dict_post_hook(lambda self, state: calls.append(len(state)), True)
    state = optimizer.state_dict()
    assert state["note"] == 1 and calls == ["saving", 2]
    optimizer.register_load_state_dict_pre_hook(lambda self, state: calls.append(state["note"]))
    optimizer.register_load_state_dict_post_hook(lambda self: calls.append("loaded"))
    optimizer.load_state_dict(state)
    assert calls == ["saving", 2, 1, "loaded"]


# -- state dicts --


def test_layout_of_the_state_dict(device):
    p, q = parameter([1.0], device), parameter([2.0], device)
    optimizer = Adam([{"params": [p]}, {"params": [q], "lr": 0.5}])
    q.grad = gradient.ones_like(q).detach()
    optimizer.step()
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert list(state["state"]) == [1]
    assert set(state["state"][1]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["state"][1]["step"] == 1


def test_loading_casts_and_copies(device):
    saved = Adam([parameter([1.0, 2.0], device)])
    saved.param_groups[0]["params"][0].grad = gradient.ones(
        2, dtype=gradient.float64, device=device
    )
    saved.step()
    p = parameter([1.0, 2.0], device, dtype="float32")
    optimizer = Adam([p], lr=7.0)
    optimizer.load_state_dict(saved.state_dict())
    state = optimizer.state[p]
    assert state["exp_avg"].dtype is gradient.float32
    assert state["step"] == 1 and optimizer.param_groups[0]["lr"] == 1e-3
    p.grad = gradient.ones_like(p).detach()
    before = numpy(next(iter(saved.state.values()))["exp_avg"]).copy()
    optimizer.step()
    np.testing.assert_array_equal(numpy(next(iter(saved.state.values()))["exp_avg"]), before)


def test_loading_states_that_do_not_fit(device):
    one = SGD([parameter([1.0], device)], lr=0.1)
    two = SGD([{"params": [parameter([1.0], device)]}, {"params": [parameter([1.0], device)]}])
    wide = SGD([parameter([1.0], device), parameter([1.0], device)], lr=0.1)
    with pytest.raises(ArgumentError) as error:
        one.load_state_dict(two.state_dict())
    assert str(error.value) == (
        "SGD: loaded state dict has a different number of parameter groups: expected 1, got 2"
    )
    with pytest.raises(ArgumentError) as error:
        one.load_state_dict(wide.state_dict())
    assert str(error.value) == (
        "SGD: loaded state dict contains a parameter group that doesn't match the size of the "
        "optimizer's group: expected sizes [1], got [2]"
    )


# -- errors --


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_option_but_a_flag_has_a_limit(row):
    cls = getattr(gradient.optim, row.name)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]
    flags = {p.name for p in parameters if p.annotation in ("bool", "bool | None")}
    assert {p.name for p in parameters} - flags - set(cls.limits) == set()
    for name in set(cls.limits) - {"params"}:
        with pytest.raises(ArgumentError, match=f"{name} must be"):
            cls([gradient.ones(2, 2, requires_grad=True)], **{name: "x"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: SGD([p], lr="fast"), "SGD: lr must be a number of at least 0, got 'fast'"),
        (lambda p: SGD([p], lr=None), "SGD: lr must be a number of at least 0, got None"),
        (
            lambda p: Adam([p], betas=0.9),
            "Adam: betas must be two numbers from 0 to less than 1, got 0.9",
        ),
        (
            lambda p: Adam([{"lr": 1.0}]),
            "Adam: a parameter group needs the key 'params', but one has only 'lr'",
        ),
        (
            lambda p: Adam([p]).load_state_dict({"model": {}}),
            "Adam: expected what state_dict() returns, with the keys 'state' and 'param_groups', "
            "but got 'model'",
        ),
        (lambda p: SGD([p], lr=-1.0), "SGD: lr must be a number of at least 0, got -1.0"),
        (lambda p: SGD([p], lr=math.nan), "SGD: lr must be a number of at least 0, got nan"),
        (
            lambda p: SGD([p], lr=gradient.ones(2)),
            "SGD: lr must be a number of at least 0, got tensor([1., 1.])",
        ),
        (
            lambda p: SGD([{"params": p, "lr": -2}]),
            "SGD: lr must be a number of at least 0, got -2",
        ),
        (
            lambda p: SGD([p], nesterov=True),
            "SGD: nesterov needs momentum > 0 and dampening == 0, got momentum 0 and dampening 0",
        ),
        (
            lambda p: AdamW([p], betas=(0.9, 1.0)),
            "AdamW: betas must be two numbers from 0 to less than 1, got (0.9, 1.0)",
        ),
        (
            lambda p: gradient.optim.Rprop([p], etas=(0.5,), step_sizes=None),
            "Rprop: etas must be a pair: a number above 0 and below 1; a number above 1, "
            "got (0.5,); step_sizes must be a pair: a number; a number, got None",
        ),
        (
            lambda p: gradient.optim.Adafactor([p], eps=1e-3),
            "Adafactor: eps must be a pair: a number of at least 0, or None; "
            "a number of at least 0, got 0.001",
        ),
        (
            lambda p: gradient.optim.LBFGS([p], max_iter="x", max_eval="y", tolerance_grad=None),
            "LBFGS: max_iter must be an integer of at least 0, got 'x'; "
            "max_eval must be an integer, or None, got 'y'; "
            "tolerance_grad must be a number, got None",
        ),
        (lambda p: Adam([p], eps=-1e-8), "Adam: eps must be a number of at least 0, got -1e-08"),
        (
            lambda p: Adam([p], differentiable=True),
            "Adam: differentiable=True is not supported: a step changes parameters in place, "
            "outside the graph",
        ),
        (
            lambda p: Muon([p]),
            "Muon: params must be of shape (M, N), got (1,); give the others to AdamW",
        ),
        (
            lambda p: Muon([p], adjust_lr_fn="x"),
            "Muon: adjust_lr_fn must be one of original, match_rms_adamw, or None, got 'x'; "
            "params must be of shape (M, N), got (1,); give the others to AdamW",
        ),
        (
            lambda p: SGD([]),
            "SGD: got an empty parameter list (a generator such as model.parameters() can be "
            "used once only)",
        ),
        (
            lambda p: SGD([p * 2]),
            "SGD: can't optimize a non-leaf Tensor (shape (1,)): pass the leaf that it was "
            "computed from, or use .detach().requires_grad_()",
        ),
        (
            lambda p: SGD([{"params": [p]}, {"params": [p]}]),
            "SGD: some parameters appear in more than one parameter group",
        ),
    ],
)
def test_bad_arguments(make, message, device):
    with pytest.raises(ArgumentError) as error:
        make(parameter([1.0], device))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: SGD(p),
            "SGD: params should be an iterable of Tensors or dicts, but got a single Tensor: "
            "put it in a list",
        ),
        (
            lambda p: SGD({p}),
            "SGD: params should be in an order that is the same in every run, but got a set: "
            "use a list",
        ),
        (lambda p: SGD([1.0]), "SGD: can only optimize Tensors, but one of the params is float"),
        (
            lambda p: lr_scheduler.StepLR(p, 3),
            f"StepLR: expected an Optimizer, but got {gradient.Tensor.__name__}",
        ),
    ],
)
def test_bad_types(make, message, device):
    with pytest.raises(TypeMismatch) as error:
        make(parameter([1.0], device))
    assert str(error.value) == message


def test_an_option_without_default(device):
    from gradient.optim.optimizer import required

    class Strict(Optimizer):
        def __init__(self, params, lr=required):
            super().__init__(params, {"lr": lr})

    with pytest.raises(ArgumentError) as error:
        Strict([parameter([1.0], device)])
    assert str(error.value) == (
        "Strict: a parameter group does not give 'lr', which has no default"
    )
    with pytest.raises(NotImplementedError, match="neither update nor step"):
        p = parameter([1.0], device)
        p.grad = gradient.ones_like(p).detach()
        Strict([{"params": [p], "lr": 1.0}]).step()


# -- schedules --


def rates(scheduler, steps):
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def test_the_initial_rate_comes_back_exactly(device):
    """The chained form multiplies and divides; where the factor is at rest, nothing may drift."""
    optimizer = SGD([parameter([1.0], device)], lr=0.1)
    seen = rates(lr_scheduler.StepLR(optimizer, 1000, gamma=0.1), 900)
    assert set(seen) == {0.1}


def test_chained_factors_multiply(device):
    optimizer = SGD([parameter([1.0], device)], lr=1.0)
    chained = lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(optimizer, 0.9), lr_scheduler.LinearLR(optimizer, 0.5, 1.0, 4)]
    )
    expected = [0.9**t * min(1.0, 0.5 + 0.125 * t) for t in range(10)]
    np.testing.assert_allclose(rates(chained, 10), expected, rtol=1e-14)


def test_compositions_nest(device):
    m, optimizer = lr_scheduler, SGD([parameter([1.0], device)], lr=1.0)
    scheduler = m.SequentialLR(
        optimizer,
        [
            m.ChainedScheduler(
                [m.LinearLR(optimizer, 0.5, 1.0, 2), m.ExponentialLR(optimizer, 0.5)]
            ),
            m.SequentialLR(
                optimizer,
                [m.ConstantLR(optimizer, 0.25, total_iters=9), m.StepLR(optimizer, 1, gamma=0.5)],
                milestones=[2],
            ),
            m.ChainedScheduler([m.ConstantLR(optimizer, 0.5), m.StepLR(optimizer, 2, gamma=0.5)]),
        ],
        milestones=[3, 7],
    )
    expected = [0.5, 0.375, 0.25] + [0.25, 0.25, 1.0, 0.5] + [0.5, 0.5, 0.25]
    np.testing.assert_allclose(rates(scheduler, 10), expected, rtol=1e-15)


def test_a_cosine_recovers_from_zero(device):
    """At its bottom the present rate tells nothing of the initial one."""
    optimizer = SGD([parameter([1.0], device)], lr=0.3)
    seen = rates(lr_scheduler.CosineAnnealingLR(optimizer, T_max=5), 11)
    assert seen[5] == pytest.approx(0.0, abs=1e-17)
    assert seen[10] == pytest.approx(0.3)


def test_warmup_cosine(device):
    optimizer = AdamW([parameter([1.0], device)], lr=2.0)
    scheduler = lr_scheduler.WarmupCosineLR(optimizer, 10, 110, min_lr_rate=0.1)
    seen = rates(scheduler, 150)
    assert seen[0] == 0.0 and seen[5] == 1.0 and seen[10] == 2.0
    assert seen[60] == pytest.approx(1.1)
    np.testing.assert_allclose(seen[110:], 0.2)
    with pytest.raises(ArgumentError) as error:
        lr_scheduler.WarmupCosineLR(optimizer, 10, 5)
    assert str(error.value) == (
        "WarmupCosineLR: expected 0 <= num_warmup_steps <= num_training_steps, but got 10 and 5"
    )


def test_a_schedule_in_torch_style(device):
    class Halving(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base / 2**self.last_epoch for base in self.base_lrs]

    optimizer = SGD([parameter([1.0], device)], lr=1.0)
    assert rates(Halving(optimizer), 4) == [1.0, 0.5, 0.25, 0.125]


def test_a_group_added_later(device):
    optimizer = SGD([parameter([1.0], device)], lr=1.0)
    decay = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.add_param_group({"params": [parameter([1.0], device)], "lr": 4.0})
    optimizer.step()
    decay.step()
    assert decay.get_last_lr() == [0.5, 2.0]

    optimizer = SGD([parameter([1.0], device)], lr=1.0)
    warmup = lr_scheduler.WarmupCosineLR(optimizer, 2, 4)
    optimizer.add_param_group({"params": [parameter([1.0], device)]})
    optimizer.step()
    with pytest.raises(ArgumentError) as error:
        warmup.step()
    assert str(error.value) == (
        "WarmupCosineLR: made for 1 parameter groups, but the optimizer has 2 now: "
        "make the scheduler after adding groups"
    )


def test_schedule_states_are_plain_data(device):
    """They go into a checkpoint's JSON."""
    import json

    optimizer = SGD([parameter([1.0], device)], lr=1.0, momentum=0.9)
    m = lr_scheduler
    for scheduler in (
        m.MultiStepLR(optimizer, [2, 4]),
        m.OneCycleLR(optimizer, 1.0, total_steps=10),
        m.CyclicLR(optimizer, 0.1, 1.0, step_size_up=4),
        m.WarmupCosineLR(optimizer, 2, 10),
        m.SequentialLR(optimizer, [m.LinearLR(optimizer), m.ExponentialLR(optimizer, 0.9)], [3]),
        m.ReduceLROnPlateau(optimizer),
    ):
        state = scheduler.state_dict()
        scheduler.load_state_dict(json.loads(json.dumps(state)))
        assert scheduler.state_dict() == state


@pytest.mark.parametrize("name", ["threshold", "patience", "cooldown", "eps", "min_lr"])
def test_plateau_takes_numbers(name, device):
    optimizer = SGD([parameter([1.0], device)], lr=1.0)
    with pytest.raises(ArgumentError, match=f"^ReduceLROnPlateau: {name} must be a number, got"):
        lr_scheduler.ReduceLROnPlateau(optimizer, **{name: "a"})


def test_a_schedule_knows_that_step_asks(device):
    """PyTorch's schedules warn in `get_lr` unless `step` has called it, and scripts' own do."""

    class Asked(lr_scheduler.LRScheduler):
        def get_lr(self):
            asked.append(self._get_lr_called_within_step)
            return self.base_lrs

    asked: list[bool] = []
    schedule = Asked(SGD([parameter([1.0], device)], lr=1.0))
    schedule.get_lr()
    assert asked == [True, False]


def test_onecycle_ends(device):
    optimizer = SGD([parameter([1.0], device)], lr=1.0, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=5)
    with pytest.raises(ArgumentError) as error:
        rates(scheduler, 7)
    assert str(error.value) == (
        "OneCycleLR: step 6 lies beyond the end of the cycle, which has 5 steps"
    )


def test_wrong_order_warns_and_right_order_does_not(device):
    optimizer = SGD([parameter([1.0], device)], lr=1.0)
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        scheduler.step()
    early = lr_scheduler.StepLR(SGD([parameter([1.0], device)], lr=1.0), 2)
    with pytest.warns(UserWarning, match=r"called before optimizer\.step\(\)"):
        early.step()


# Masters of 16-bit parameters --------------------------------------------------------------------

WITH_MASTERS = {
    "AdamW": functools.partial(AdamW, lr=1e-3, weight_decay=0.1),
    "Adam": functools.partial(Adam, lr=1e-3, weight_decay=0.1, maximize=True),
    "AdamW, amsgrad": functools.partial(AdamW, lr=1e-3, amsgrad=True),
    "SGD": functools.partial(SGD, lr=1e-3),
    "SGD, momentum": functools.partial(SGD, lr=1e-3, momentum=0.9, weight_decay=0.1),
    **{
        name: functools.partial(getattr(gradient.optim, name), lr=1e-3)
        for name in sorted({row.name for row in TABLE} - {"Adam", "AdamW", "SGD"})
        if getattr(gradient.optim, name).update is not Optimizer.update
    },
}
"""Every rule: those that have no step of their own (LBFGS has one) take masters."""
with_masters = pytest.mark.parametrize("name", WITH_MASTERS)
half = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


def gradients(dtype, device):
    rng = np.random.default_rng(1)
    for _ in range(6):
        yield parameter(rng.standard_normal((3, 5)), device, dtype).detach()


@with_masters
@half
def test_masters_are_stepped_as_float32_parameters(name, dtype, device):
    start = np.random.default_rng(0).standard_normal((3, 5))
    p = parameter(start, device, dtype)
    alone = p.detach().float().requires_grad_()
    here = WITH_MASTERS[name]([p], master_weights=True)
    there = WITH_MASTERS[name]([alone])
    for g in gradients(dtype, device):
        p.grad, alone.grad = g, g.float()
        here.step(), there.step()
        assert p.dtype == getattr(gradient, dtype)
        np.testing.assert_array_equal(numpy(p), numpy(alone.to(p.dtype)))
    np.testing.assert_allclose(numpy(here.state[p]["master_param"]), numpy(alone), rtol=1e-6)
    for key, value in there.state[alone].items():
        if isinstance(value, gradient.Tensor):
            assert here.state[p][key].dtype == gradient.float32, key


@half
def test_steps_below_half_a_unit_add_up_in_masters_alone(dtype, device):
    ends = []
    for masters in (True, False):
        p = parameter(np.ones(3), device, dtype)
        optimizer = SGD([p], lr=1e-4, master_weights=masters)
        for _ in range(100):
            p.grad = gradient.ones_like(p).detach()
            optimizer.step()
        ends.append(p.float().tolist())
    assert ends[0] == pytest.approx([0.99] * 3, abs=0.004)
    assert ends[1] == [1.0] * 3


@with_masters
@half
@pytest.mark.parametrize("kept_in", ["memory", "file"])
def test_masters_are_in_the_saved_state(name, dtype, kept_in, device, tmp_path):
    ends = []
    for resumes in (False, True):
        p = parameter(np.linspace(-1, 1, 15).reshape(3, 5), device, dtype)
        optimizer = WITH_MASTERS[name]([p], master_weights=True)
        for i, g in enumerate(gradients(dtype, device)):
            if resumes and i == 3:
                state = copy.deepcopy(optimizer.state_dict())
                if kept_in == "file":
                    gradient.save(state, tmp_path / "optimizer.safetensors")
                    state = gradient.load(tmp_path / "optimizer.safetensors")
                p = p.detach().clone().requires_grad_()
                optimizer = WITH_MASTERS[name]([p])  # the group says that there are masters
                optimizer.load_state_dict(state)
            p.grad = g
            optimizer.step()
        ends.append(numpy(optimizer.state[p]["master_param"]))
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("name", ["AdamW", "RMSprop"])
def test_parameters_that_are_wide_have_no_masters(name, device):
    wide, narrow = parameter([1.0, 2.0], device, "float32"), parameter([3.0], device, "bfloat16")
    optimizer = getattr(gradient.optim, name)([wide, narrow], lr=0.1, master_weights=True)
    for p in (wide, narrow):
        p.grad = gradient.ones_like(p).detach()
    optimizer.step()
    assert "master_param" not in optimizer.state[wide]
    assert optimizer.state[narrow]["master_param"].dtype == gradient.float32


def test_a_step_that_fails_leaves_the_masters_where_they_were(device):
    class Failing(gradient.optim.Adagrad):
        def update(self, params, group):
            super().update(params, group)
            raise RuntimeError("stop")

    p = parameter([1.0, 2.0], device, "bfloat16")
    p.grad = gradient.ones_like(p).detach()
    optimizer = Failing([p], master_weights=True)
    with pytest.raises(RuntimeError, match="stop"):
        optimizer.step()
    assert list(optimizer.state) == [p]
    assert optimizer.state[p]["master_param"].grad is None
    assert p.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_fused_and_foreach_are_not_both_true(name):
    make = getattr(gradient.optim, name)
    params = [gradient.ones(2, requires_grad=True)]
    with pytest.raises(RuntimeError, match="fused and foreach cannot both be True"):
        make(params, lr=0.1, fused=True, foreach=True)
    make(params, lr=0.1, fused=True, foreach=False)
    make(params, lr=0.1, foreach=True)
