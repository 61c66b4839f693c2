"""The engine: accumulation, hooks, higher derivatives, what is kept and what is freed."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.autograd import (
    Function,
    checkpoint,
    checkpoint_sequential,
    detect_anomaly,
    grad,
    gradcheck,
    gradgradcheck,
    inplace,
)
from gradient.autograd.function import once_differentiable
from gradient.autograd.gradcheck import GradcheckError
from gradient.errors import AutogradError
from gradient.testing import assert_close


@pytest.fixture
def x(device: str) -> gradient.Tensor:
    return gradient.tensor([[1.0, 2.0], [3.0, 4.0]], device=device, requires_grad=True)


def values(tensor: gradient.Tensor) -> list:
    return tensor.tolist()


# Accumulation ------------------------------------------------------------------------------------


def test_gradients_add_up_over_calls(x):
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert values(x.grad) == [[4, 8], [12, 16]]


def test_accumulation_is_in_place(x):
    (x * 2).sum().backward()
    alias = x.grad
    (x * 2).sum().backward()
    assert values(alias) == [[4, 4], [4, 4]]


def test_one_gradient_given_to_two_leaves_is_not_shared(device):
    a = gradient.zeros(3, device=device, requires_grad=True)
    b = gradient.zeros(3, device=device, requires_grad=True)
    (a + b).backward(gradient.ones(3, device=device))
    a.grad.mul_(5)
    assert values(b.grad) == [1, 1, 1]


def test_the_callers_gradient_is_not_adopted(x):
    seed = gradient.ones(2, 2, device=x.device)
    x.clone().backward(seed)
    x.grad.add_(1)
    assert values(seed) == [[1, 1], [1, 1]]


def test_a_saved_array_is_not_adopted_as_gradient(device):
    """exp's gradient of ones is its saved result: with the graph kept, grad must be a copy."""
    a = gradient.zeros(2, device=device, requires_grad=True)
    y = a.exp()
    y.backward(gradient.ones(2, device=device), retain_graph=True)
    a.grad.mul_(7)
    a.grad = None
    y.backward(gradient.ones(2, device=device))
    assert values(a.grad) == [1, 1]


def test_many_uses_of_one_tensor(device):
    a = gradient.tensor(2.0, device=device, requires_grad=True)
    y = a + a + a * a + a
    y.backward()
    assert a.grad.item() == 7


def test_gradient_of_a_broadcast_input_has_its_shape(device):
    a = gradient.ones(3, 1, device=device, requires_grad=True)
    b = gradient.ones(2, 1, 4, device=device, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.shape == (3, 1)
    assert values(a.grad) == [[8], [8], [8]]
    assert b.grad.shape == (2, 1, 4)


def test_gradient_has_the_inputs_dtype(device):
    a = gradient.ones(2, dtype=gradient.float32, device=device, requires_grad=True)
    b = gradient.ones(2, dtype=gradient.float64, device=device, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype is gradient.float32
    assert b.grad.dtype is gradient.float64


def test_several_roots_and_chosen_inputs(x):
    w = gradient.ones(2, 2, device=x.device, requires_grad=True)
    a, b = (x * w).sum(), (x + w).sum()
    gradient.autograd.backward([a, b], inputs=[w])
    assert x.grad is None
    assert values(w.grad) == [[2, 3], [4, 5]]


# Errors ------------------------------------------------------------------------------------------


def test_a_second_pass_needs_the_graph(x):
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward.*retain_graph=True"):
        y.backward()


def test_retained_graph(x):
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert values(x.grad) == [[4, 8], [12, 16]]


def test_backward_without_a_graph(device):
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        gradient.ones(1, device=device).backward()


def test_backward_of_a_matrix_needs_a_gradient(x):
    with pytest.raises(RuntimeError, match="implicitly created only for scalar outputs, got shape"):
        (x * 2).backward()


def test_gradient_of_the_wrong_shape(x):
    message = "has shape (3,) but its tensor has shape (2, 2)"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        (x * 2).backward(gradient.ones(3, device=x.device))


def test_grad_of_an_unused_input(x):
    other = gradient.ones(1, device=x.device, requires_grad=True)
    with pytest.raises(RuntimeError, match="do not depend on input 1.*allow_unused"):
        grad((x * x).sum(), [x, other])
    g, none = grad((x * x).sum(), [x, other], allow_unused=True)
    assert none is None
    assert values(g) == [[2, 4], [6, 8]]
    _, zeros = grad((x * x).sum(), [x, other], materialize_grads=True, allow_unused=True)
    assert values(zeros) == [0]


def test_grad_touches_no_leaf(x):
    grad((x * x).sum(), x)
    assert x.grad is None


def test_grad_of_an_inner_tensor(x):
    y = x * 3
    (g,) = grad((y * y).sum(), y)
    assert values(g) == [[6, 12], [18, 24]]


def test_grad_of_an_inner_tensor_leaves_the_graph_below_it(x):
    y = x * x
    for power in (2, 3):
        (got,) = grad((y**power).sum(), y)
        assert values(got) == values(power * y ** (power - 1))
    (y * 3).sum().backward()
    assert values(x.grad) == [[6.0, 12.0], [18.0, 24.0]]
    z = x.exp()
    assert all(g is not None for g in grad(z.sum(), [z, x]))  # it leads to x, and is freed
    with pytest.raises(AutogradError, match="freed"):
        z.sum().backward()


def test_integers_have_no_gradient(device):
    with pytest.raises(RuntimeError, match="only Tensors of floating point and complex dtype"):
        gradient.arange(3, device=device).requires_grad_()


# Higher derivatives ------------------------------------------------------------------------------


def test_third_derivative(device):
    a = gradient.tensor(2.0, dtype=gradient.float64, device=device, requires_grad=True)
    g = a**4
    for expected in (32.0, 48.0, 48.0):
        (g,) = grad(g, a, create_graph=True)
        assert g.item() == pytest.approx(expected)


def test_gradient_penalty(device):
    """The gradient of a gradient's norm, for the weights and the input, against differences."""
    gradient.manual_seed(0)
    w = gradient.randn(3, 3, dtype=gradient.float64, device=device, requires_grad=True)
    a = gradient.randn(2, 3, dtype=gradient.float64, device=device, requires_grad=True)

    def penalty(w: gradient.Tensor, a: gradient.Tensor) -> gradient.Tensor:
        with gradient.enable_grad():
            (g,) = grad((a @ w).tanh().sum(), a, create_graph=True)
            return (g.norm(dim=1) - 1).square().mean()

    assert gradcheck(penalty, (w, a))


def test_create_graph_in_backward(x):
    y = (x**3).sum()
    y.backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = grad(x.grad.sum(), x)
    assert values(second) == [[6, 12], [18, 24]]
    x.grad = None


def test_second_order_where_an_input_comes_from_another(device):
    """The inner pass of a rule with extra values ends at the op's inputs."""

    def f(a):
        return gradient.nn.functional.layer_norm(a, (4,), (a * a)[0])

    assert gradgradcheck(f, double(3, 4, device=device))


def test_second_order_where_one_tensor_is_several_inputs(device):
    def f(a):
        return gradient.nn.functional.scaled_dot_product_attention(a * 2, a, a)

    assert gradgradcheck(f, double(1, 2, 3, 4, device=device))


def test_gradgradcheck_leaves_the_weights_given_as_they_are() -> None:
    w = double(3).detach()
    assert gradgradcheck(gradient.sin, (double(3),), w)
    assert not w.requires_grad and w.grad is None


def test_hooks_run_once_with_create_graph(x):
    x.register_hook(lambda g: g * 2)
    (g,) = grad((gradient.nn.functional.rms_norm(x, (2,)) ** 3).sum(), x, create_graph=True)
    with gradient.no_grad():
        plain = x.clone()
    plain.requires_grad_()
    (once,) = grad((gradient.nn.functional.rms_norm(plain, (2,)) ** 3).sum(), plain)
    assert_close(g.detach(), once * 2)


@pytest.mark.parametrize("create_graph", [False, True])
def test_each_gradient_has_its_own_memory(create_graph, device):
    a, b = (gradient.ones(3, device=device, requires_grad=True) for _ in range(2))
    c = a + b
    c.retain_grad()
    (c * 2).sum().backward(create_graph=create_graph)
    kept = [t.grad for t in (a, b, c)]
    with gradient.no_grad():
        for i, g in enumerate(kept):
            g.mul_(i)
    assert [values(g) for g in kept] == [[0] * 3, [2] * 3, [4] * 3]


def test_a_gradient_that_nobody_else_holds_is_not_copied(monkeypatch, device):
    layers = [gradient.nn.Linear(3, 4, device=device), gradient.nn.Linear(4, 1, device=device)]
    x = gradient.ones(2, 3, device=device)
    backend, copied = type(x.backend), []
    copy = backend.copy
    monkeypatch.setattr(backend, "copy", lambda be, a: copied.append(a.shape) or copy(be, a))
    layers[1](layers[0](x).tanh()).sum().backward()
    # A GPU's products take no factor that repeats its numbers, such as the gradient of a sum.
    assert not {p.shape for layer in layers for p in layer.parameters()} & set(copied)
    copied.clear()
    a, b = (gradient.zeros(3, device=device, requires_grad=True) for _ in range(2))
    (a + b).backward(gradient.ones(3, device=device) * 2)  # the first of two; the caller's is left
    assert copied == [(3,), (3,)]


def test_a_gradient_is_contiguous_whatever_its_rule_returns(device):
    x = gradient.ones(2, 3, device=device, requires_grad=True)
    transposed = gradient.ones(3, 2, device=device).t()
    (x * transposed).backward(transposed)
    assert x.grad.is_contiguous()


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_can_be_written_where_it_was_an_expanded_view(create_graph, x):
    y = x * 1
    y.retain_grad()
    y.sum().backward(create_graph=create_graph)
    given = gradient.ones(2, 2, device=x.device)
    x.backward(given, create_graph=create_graph)
    with gradient.no_grad():
        x.grad.zero_()
        y.grad.zero_()
    assert values(given) == [[1, 1], [1, 1]]


def test_the_graph_goes_through_a_leafs_gradient(device):
    a, b = (gradient.full((2,), 2.0, device=device, requires_grad=True) for _ in range(2))
    ((a + b) ** 3).sum().backward(create_graph=True)
    first = a.grad
    assert first is not b.grad
    a.grad = b.grad = None
    (first**2).sum().backward()  # (3 (a + b)^2)^2: 36 (a + b)^3
    assert values(a.grad) == values(b.grad) == [36 * 4**3] * 2


def test_the_graph_goes_through_the_gradient_of_inputs_under_no_grad(device):
    a = gradient.full((2,), 2.0, device=device, requires_grad=True)
    y = (a**3).sum()
    for _ in range(2):
        with gradient.no_grad():
            y.backward(create_graph=True, inputs=[a])
        assert not a.grad.is_leaf
    (second,) = grad(a.grad.sum(), a)
    assert values(second) == [24, 24]


# Modes -------------------------------------------------------------------------------------------


def test_no_grad_as_context_decorator_and_generator(x):
    with gradient.no_grad():
        assert not (x * 2).requires_grad
        with gradient.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @gradient.no_grad()
    def called():
        return (x * 2).requires_grad

    @gradient.no_grad
    def bare():
        return (x * 2).requires_grad

    @gradient.no_grad()
    def generated():
        yield (x * 2).requires_grad
        yield (x * 2).requires_grad

    assert not called()
    assert not bare()
    outside = []
    for inside in generated():
        assert not inside
        outside.append((x * 2).requires_grad)
    assert outside == [True, True]


def test_set_grad_enabled_and_inference_mode(x):
    with gradient.set_grad_enabled(False):
        assert not gradient.is_grad_enabled()
    assert gradient.is_grad_enabled()
    gradient.set_grad_enabled(False)
    assert not gradient.is_grad_enabled()
    gradient.set_grad_enabled(True)
    with gradient.inference_mode():
        assert not (x * 2).requires_grad
        assert gradient.is_inference_mode_enabled()
    with gradient.inference_mode(False):
        assert (x * 2).requires_grad


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("mode", [gradient.inference_mode, gradient.set_grad_enabled])
def test_a_mode_with_an_argument_decorates(mode, enabled):
    def modes():
        return gradient.is_grad_enabled(), gradient.is_inference_mode_enabled()

    def generator():
        yield modes()

    inference = mode is gradient.inference_mode and enabled
    records = not enabled if mode is gradient.inference_mode else enabled
    called, generated = mode(enabled)(modes), mode(enabled)(generator)
    assert called() == (records, inference)
    assert list(generated()) == [(records, inference)]
    assert modes() == (True, False)


def test_a_generator_under_a_mode_is_sent_and_thrown_to():
    modes = []

    @gradient.no_grad()
    def generated():
        try:
            sent = yield "first"
        except KeyError:
            modes.append(gradient.is_grad_enabled())
            sent = yield "caught"
        try:
            yield sent
        finally:
            modes.append(gradient.is_grad_enabled())
        return "result"

    def delegating():
        results.append((yield from generated()))

    results = []
    generator = delegating()
    assert next(generator) == "first"
    assert generator.throw(KeyError()) == "caught"
    assert generator.send(5) == 5
    assert next(generator, "end") == "end"
    assert results == ["result"]
    stopped = generated()
    next(stopped), stopped.send(1), stopped.close()
    with pytest.raises(ValueError, match="not caught"):
        generator = generated()
        next(generator), generator.throw(ValueError("not caught"))
    assert modes == [False, False, False]
    assert gradient.is_grad_enabled()


def test_an_exception_restores_the_mode(x):
    with pytest.raises(KeyError), gradient.no_grad():
        raise KeyError
    assert gradient.is_grad_enabled()
    y = x * 2
    y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward()
    assert gradient.is_grad_enabled()


# Hooks -------------------------------------------------------------------------------------------


def test_hooks_replace_and_can_be_removed(x):
    y = x * 2
    handle = y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert values(x.grad) == [[20, 20], [20, 20]]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert values(x.grad) == [[2, 2], [2, 2]]


def test_a_handle_removes_its_own_registration_once(x):
    def double(g):
        return g * 2

    first, second = x.register_hook(double), x.register_hook(double)
    first.remove()
    first.remove()
    x.sum().backward()
    assert values(x.grad) == [[2, 2], [2, 2]]
    second.remove()
    third = x.register_hook(double)
    second.remove()
    x.grad = None
    x.sum().backward()
    assert values(x.grad) == [[2, 2], [2, 2]]
    third.remove()
    x.register_hook(double), x.register_hook(lambda g: g + 1), x.register_hook(double).remove()
    x.grad = None
    x.sum().backward()
    assert values(x.grad) == [[3, 3], [3, 3]]


def test_hooks_of_leaves(x):
    seen = []
    x.register_hook(lambda g: g * 3)
    x.register_post_accumulate_grad_hook(lambda t: seen.append(values(t.grad)))
    x.sum().backward()
    assert seen == [[[3, 3], [3, 3]]]


def test_retain_grad(x):
    y = x * 2
    y.retain_grad()
    assert y.retains_grad
    (y * y).sum().backward()
    assert values(y.grad) == [[4, 8], [12, 16]]


def test_retain_grad_sees_what_the_hooks_made_of_it(x):
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert values(y.grad) == [[10, 10], [10, 10]]


@pytest.mark.parametrize("write", ["mul_", "setitem", "base", "view"])
def test_retain_grad_is_of_the_value_after_a_write(x, write):
    base = x * 1
    y = base[:] if write == "base" else base
    y.retain_grad()
    if write == "setitem":
        y[0] = y[0].clone() * 3
    else:
        (base.view(4) if write == "view" else base).mul_(3)
    (y * y).sum().backward()
    assert_close(y.grad, 2 * y.detach())


def test_a_hook_must_keep_the_shape(x):
    y = x.view(4) * 2
    y.register_hook(lambda g: g.reshape(2, 2))
    with pytest.raises(RuntimeError, match=r"hook of MulBackward.*\(4,\) and returned one of"):
        y.sum().backward()


def test_each_thread_records_or_not_by_itself():
    x = gradient.ones(3, requires_grad=True)
    entered, left = threading.Event(), threading.Event()
    recorded = []

    def without_grad() -> None:
        with gradient.no_grad():
            entered.set()
            left.wait(10)
            recorded.append((x * 2).requires_grad)
        recorded.append((x * 2).requires_grad)

    worker = threading.Thread(target=without_grad)
    worker.start()
    entered.wait(10)
    try:
        assert (x * 2).requires_grad and x[0].requires_grad and x.sum().requires_grad
    finally:
        left.set()
        worker.join()
    assert recorded == [False, True]


def test_threads_with_a_leaf_in_common_lose_nothing():
    w = gradient.zeros(3, requires_grad=True)

    def work():
        for _ in range(200):
            (w * 1).sum().backward()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    assert values(w.grad) == [800, 800, 800]


# What is kept ------------------------------------------------------------------------------------


def test_a_pass_leaves_no_reference_cycle():
    def step() -> weakref.ref:
        w = gradient.randn(8, 8, requires_grad=True)
        a = gradient.randn(4, 8)
        h = (a @ w).relu()
        out = h.softmax(-1).log().sum() + h[:, 1:3].mean() + h.split(4, 1)[0].sum()
        out.backward()
        return weakref.ref(h)

    step()
    gc.collect()
    gc.disable()
    try:
        refs = [step() for _ in range(3)]
        assert all(r() is None for r in refs), "an activation outlived its step"
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_frozen_weight_keeps_no_activation_alive(device):
    """x is needed for the gradient of the weight alone: with the weight frozen, nobody keeps it."""

    def activation_is_kept(frozen: bool) -> bool:
        weight = gradient.randn(8, 8, device=device, requires_grad=not frozen)
        below = gradient.randn(4, 8, device=device, requires_grad=True)
        hidden = below * 2
        kept = weakref.ref(hidden.array) if device == "cpu" else None
        out = gradient.nn.functional.linear(hidden, weight)
        del hidden
        alive = kept() is not None if kept else not frozen
        out.sum().backward()
        assert below.grad is not None
        return alive

    assert activation_is_kept(frozen=False)
    assert not activation_is_kept(frozen=True)


def test_an_rnn_keeps_no_input_that_its_rule_does_not_use():
    from gradient.ops import recurrent

    x = gradient.randn(3, 2, 4, requires_grad=True) * 2
    kept = weakref.ref(x.array)
    states = recurrent.rnn(x, gradient.zeros(2, 4), gradient.randn(4, 4, requires_grad=True))
    del x
    assert kept() is None
    states.sum().backward()


def test_a_rule_is_not_called_for_a_constant():
    from gradient.autograd.op import op

    def never(g, a):
        raise AssertionError("the rule of a constant input was called")

    @op(lambda g, b: g * b, never)
    def product(be, a, b, /):
        return a * b

    gradient.autograd.op.__globals__["registry"].pop("product")
    a = gradient.ones(2, requires_grad=True)
    product(a, gradient.ones(2)).sum().backward()
    assert values(a.grad) == [1, 1]


def test_rules_with_extra_values_name_all_inputs():
    from gradient.autograd.op import Op

    def scaled(be, x, scale, bias, /):
        return x * be.exp(scale) + bias, {"factor": be.exp(scale)}

    def shift(be, *arrays):
        return arrays[0], {"n": len(arrays)}

    def joint(g, x, factor):
        return g * factor, g * factor * x, g

    def first(g, x, scale, factor):
        return g * factor

    def second(g, x, factor):
        return g * factor * x

    with pytest.raises(TypeError, match=r"op scaled: .* a rule without 'scale' and 'bias'"):
        Op(scaled, [joint])
    with pytest.raises(TypeError, match=r"op scaled: .* a rule without 'scale'; second"):
        Op(scaled, [joint], gradients_without="bias")
    with pytest.raises(TypeError, match=r"op scaled: .* a rule without 'scale'; second"):
        Op(scaled, [first, second, first], gradients_without="bias")
    Op(scaled, [first, first, first], gradients_without="bias")
    with pytest.raises(TypeError, match=r"op shift: expected a fixed number of inputs .* \*arrays"):
        Op(shift, [lambda g, n: [g] * n])


def test_saved_values_are_freed_by_backward():
    a = gradient.randn(4, requires_grad=True)
    hidden = a * 2
    kept = weakref.ref(hidden.array)
    out = (hidden * hidden).sum()
    del hidden
    assert kept() is not None
    out.backward()
    assert kept() is None


def test_deep_graphs_need_no_stack():
    a = gradient.ones(1, requires_grad=True)
    y = a
    for _ in range(20_000):
        y = y + 0.0
    y.backward()
    assert values(a.grad) == [1]
    del y  # the chain of nodes is freed without recursion, too


# In-place operations -----------------------------------------------------------------------------


def test_an_overwritten_saved_value_is_noticed_with_both_lines(x):
    y = x.exp()
    z = y * y  # saved here
    y.add_(1)  # overwritten here
    with pytest.raises(RuntimeError) as caught:
        z.sum().backward()
    message = str(caught.value)
    lines = [
        number
        for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
        if "# saved here" in line or "# overwritten here" in line
    ][:2]
    assert message.startswith("backward: mul (called at ")
    assert [int(n) for n in re.findall(r"test_autograd\.py:(\d+)", message)] == lines
    assert "saved its 'a' of shape (2, 2)" in message
    assert "add_" in message


@pytest.mark.parametrize("write", ["y.mul_(2)", "y[0] = 0.0", "y += 1", "y.copy_(x)", "y.zero_()"])
def test_every_kind_of_overwriting_is_noticed(x, write):
    y = x * 1
    z = y * y
    with gradient.no_grad():
        exec(write, {"x": x, "y": y})
    with pytest.raises(RuntimeError, match="overwrote it in place"):
        z.sum().backward()


def test_what_a_hook_overwrites_during_the_pass_is_noticed(x):
    y = x * 2
    z = y * y
    z.register_hook(lambda g: y.detach().zero_() * 0 + g)
    with pytest.raises(RuntimeError, match="overwrote it in place"):
        z.sum().backward()


def test_a_training_step_looks_at_no_saved_array(device, monkeypatch):
    looked: list[object] = []
    model = gradient.nn.Sequential(gradient.nn.Linear(3, 4), gradient.nn.Tanh()).to(device)
    optimizer = gradient.optim.AdamW(model.parameters())
    monkeypatch.setattr(inplace, "check_saved", looked.append)
    for _ in range(3):
        optimizer.zero_grad()
        model(gradient.ones(2, 3, device=device)).sum().backward()
        optimizer.step()
    assert looked == []


def test_overwriting_what_nobody_saved_is_fine(x):
    y = x + 1
    z = y * 3
    y.mul_(0)
    z.sum().backward()
    assert values(x.grad) == [[3, 3], [3, 3]]


def test_in_place_results_are_differentiated(x):
    y = x * 2
    y.mul_(3)
    y += x
    y[0] = 5.0
    y.sum().backward()
    assert values(x.grad) == [[0, 0], [7, 7]]


def test_assigned_values_get_gradients(x):
    v = gradient.tensor([1.0, 2.0], device=x.device, requires_grad=True)
    y = x * 1
    y[1] = v * 3
    (y * y).sum().backward()
    assert values(x.grad) == [[2, 4], [0, 0]]
    assert values(v.grad) == [18, 36]


def test_writing_to_a_view_reaches_its_base(x):
    y = x * 1
    y.view(4)[1:3].mul_(10)
    y.sum().backward()
    assert values(x.grad) == [[1, 10], [10, 1]]


def test_writing_to_a_diagonal_reaches_its_matrix(x):
    y = x * 1
    y.diagonal().mul_(10)
    y.diagonal(1).zero_()
    assert values(y) == [[10, 0], [3, 40]]
    y.sum().backward()
    assert values(x.grad) == [[10, 0], [1, 10]]


def test_writing_to_the_base_reaches_its_views(x):
    """A view shows the new values, and its gradient goes through the write."""
    y = x * 1
    row, corner = y[0], y.t()[1:, 1:]
    y.mul_(4)
    assert values(row) == [4, 8]
    (row.sum() + corner.sum()).backward()
    assert values(x.grad) == [[4, 4], [0, 4]]


def test_writing_to_a_view_reaches_its_sisters(x):
    y = x * 1
    first, every = y[0], y.view(4)
    first.mul_(3)
    (every * every).sum().backward()
    assert values(x.grad) == [[18, 36], [6, 8]]


def test_writing_a_result_into_a_view_of_a_buffer(x):
    buffer = gradient.zeros(3, 2, device=x.device)
    buffer[1].copy_(x[0] * 5)
    buffer[2, 1].add_(x[1, 1])
    (buffer * buffer).sum().backward()
    assert values(x.grad) == [[50, 100], [0, 8]]


def test_a_copy_of_a_leaf_is_no_leaf(x):
    buffer = gradient.zeros(2, 2, device=x.device)
    buffer.copy_(x)
    assert not buffer.is_leaf
    buffer.add_(1)
    buffer.register_hook(lambda g: g * 10)
    (buffer.sum() + x.sum()).backward()
    assert values(x.grad) == [[11, 11], [11, 11]]


def test_clearing_part_of_a_result_cuts_its_gradient(x):
    y = x * 2
    y[0].zero_()
    y.sum().backward()
    assert values(x.grad) == [[0, 0], [2, 2]]


def test_gradients_through_views_and_writes_of_second_order(device):
    def f(a, b):
        y = a * a
        y.t()[1].add_(b * b)
        y[0].mul_(3)
        y.view(-1)[2:].add_(b.sum())
        return y * y

    a, b = double(3, 2, device=device), double(3, device=device)
    assert gradcheck(f, (a, b))
    assert gradgradcheck(f, (a, b))


def test_a_leaf_cannot_be_overwritten(x):
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad.*in-place.*no_grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="view of a leaf Variable"):
        x[0].add_(1)
    with gradient.no_grad():
        x.add_(1)
    assert values(x) == [[2, 3], [4, 5]]


def test_an_expanded_tensor_cannot_be_overwritten(device):
    with pytest.raises(RuntimeError, match="expanded"):
        gradient.zeros(1, device=device).expand(3).add_(1)


def test_an_expanded_tensor_without_elements_can_be_overwritten(device):
    x = gradient.zeros(3, 1, 0, device=device).expand(3, 2, 0)
    y = (gradient.zeros(1, 0, device=device, requires_grad=True) * 2).expand(3, 0)
    assert x.add_(1) is x and x.floor_divide_(2).ne_(1).shape == (3, 2, 0)
    y += 1
    y.sum().backward()


def test_nothing_of_an_empty_tensor_is_overwritten(device):
    x = gradient.rand(1, 3, 4, device=device, requires_grad=True)
    y = x * 2
    half = y.shape[0] // 2  # 0: a part without elements, whose softmax may share its memory
    y[half:] = y[half:].softmax(-1)
    y[:half] = y[:half].softmax(-1)
    (y * gradient.arange(4.0, device=device)).sum().backward()
    (wanted,) = gradient.autograd.grad(
        ((x * 2).softmax(-1) * gradient.arange(4.0, device=device)).sum(), x
    )
    assert gradient.allclose(x.grad, wanted)


def test_an_overwritten_index_or_mask_is_noticed(device):
    a = gradient.arange(4.0, device=device).requires_grad_()
    index, mask = gradient.tensor([0, 1], device=device), gradient.ones(4, device=device) > 0
    picked, chosen = a[index], gradient.where(mask, a, a * 0)
    rows = gradient.nn.functional.embedding(index, a.view(4, 1))
    index += 1
    mask.logical_not_()
    for name, y in {"index": picked, "where": chosen, "embedding": rows}.items():
        with pytest.raises(RuntimeError, match=f"{name} .*overwrote it in place"):
            y.sum().backward()


def test_an_accumulated_grad_that_a_graph_saved_is_noticed(x):
    w = gradient.ones(2, 2, device=x.device, requires_grad=True)
    x.sum().backward()
    penalty = (w * x.grad).sum()
    x.sum().backward()
    with pytest.raises(RuntimeError, match="mul .*saved its 'b'.*but backward"):
        penalty.backward()


@pytest.mark.parametrize("name", ["log", "sin", "abs", "square", "log1p", "erf", "relu", "exp"])
def test_in_place_forms_keep_the_old_values_that_they_need(x, name):
    y, z = x * 1, x * 1
    getattr(y, name + "_")()
    (g,) = grad(y.sum(), x)
    (expected,) = grad(getattr(z, name)().sum(), x)
    assert_close(g, expected)


def test_in_place_products_keep_the_old_values_that_they_need(x):
    w = gradient.full((2, 2), 3.0, device=x.device, requires_grad=True)
    y = x * 1
    y.mul_(w)
    y.pow_(2)
    y.div_(w)
    y.sum().backward()  # 3 x^2
    assert values(w.grad) == [[1, 4], [9, 16]]
    assert values(x.grad) == [[6, 12], [18, 24]]


def test_detached_and_viewed_scalars_share_their_memory(device):
    """A full reduction may be a NumPy scalar, which cannot be written."""
    total = gradient.ones(3, device=device).sum()
    total.detach().fill_(5)
    assert total.item() == 5
    other = gradient.ones(3, device=device).sum()
    other.view(1).mul_(2)
    assert other.item() == 6


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.__setitem__(t > 1, 0.0),
        lambda t: t.__setitem__((), 0.0),
        lambda t: t.__setitem__(..., 0.0),
        lambda t: t.zero_(),
        lambda t: t.mul_(0),
        lambda t: t.masked_fill_(t > 1, 0.0),
    ],
)
def test_a_full_reduction_can_be_overwritten(x, write):
    total = x.sum()
    write(total)
    (total + x.sum()).backward()
    assert total.item() == 0
    assert values(x.grad) == [[1, 1], [1, 1]]


def test_what_keeps_its_inputs_can_be_overwritten(x):
    """Division and logaddexp keep what they were given, not what they gave."""
    w = gradient.full((2, 2), 2.0, device=x.device, requires_grad=True)
    y = x / w
    y += 1
    y.sum().backward()
    assert values(x.grad) == [[0.5, 0.5], [0.5, 0.5]]
    assert values(w.grad) == [[-0.25, -0.5], [-0.75, -1]]
    z = x.detach().logaddexp(w).add_(1)
    (g,) = grad(z[0, 1], w)
    assert values(g) == [[0, 0.5], [0, 0]]


def test_a_write_after_views_of_views(x):
    view = y = (x * 1).view(4)
    for _ in range(3000):
        view = view[:]
    view.mul_(3)
    y.sum().backward()
    assert values(x.grad) == [[3, 3], [3, 3]]
    for _ in range(3000):
        y = y[:]
    view.zero_()
    assert values(y) == [0, 0, 0, 0]


def test_integers_leave_the_graph(x):
    assert not x.long().requires_grad
    assert not x.to(gradient.bool).requires_grad
    assert not x.view(gradient.int32).requires_grad
    counts = gradient.zeros(2, dtype=gradient.int64, device=x.device)
    counts[0] = x[1, 1]
    counts[1:].copy_(x[1, :1])
    assert values(counts) == [4, 3]
    assert not counts.requires_grad
    (x - x.long().float()).sum().backward()
    assert values(x.grad) == [[1, 1], [1, 1]]


def test_integers_leave_the_graph_of_a_checkpoint(x):
    square, floor = checkpoint(lambda t: (t * t, t.long()), x)
    assert square.requires_grad and not floor.requires_grad


def test_writing_to_a_copy_that_reshape_made_leaves_the_base_alone(x):
    y = x * 1
    copied = y.t().reshape(-1)
    copied.mul_(5)
    y.sum().backward()
    assert values(x.grad) == [[1, 1], [1, 1]]


@pytest.mark.parametrize("base", ["leaf", "result", "constant"])
def test_a_view_taken_under_no_grad_is_not_written_outside(x, base):
    """Its base would not learn of the write, and have the gradient of what it no longer shows."""
    y = {"leaf": x, "result": x * 1, "constant": gradient.zeros_like(x)}[base]
    with gradient.no_grad():
        view = y.view(4)[1:3]
        view.mul_(2)
    for write in (lambda: view.mul_(x.sum()), lambda: view.t().copy_(x[0])):
        with pytest.raises(AutogradError, match="taken under no_grad is being written"):
            write()
    if base != "constant":
        with pytest.raises(AutogradError, match="taken under no_grad is being written"):
            view.zero_()
    else:
        assert values(view.zero_()) == [0, 0]


def test_views_under_no_grad_make_no_chain(x):
    with gradient.no_grad():
        view = x * 1
        for _ in range(100):
            view = view[:]
    assert view.view_info[0].view_info is None


def test_views_of_what_becomes_a_leaf_have_its_gradient(device):
    base = gradient.ones(2, 2, device=device)
    view = base[0]
    base.requires_grad_()
    (view * 3).sum().backward()
    assert values(base.grad) == [[3, 3], [0, 0]]


def test_a_view_is_not_detached_in_place(x):
    y = x * 1
    with pytest.raises(AutogradError, match="a view cannot be detached in place"):
        y[0].detach_()
    assert not y.detach_().requires_grad


def test_a_leaf_that_is_a_view_stays_a_leaf(device):
    buffer = gradient.zeros(4, device=device)
    p = buffer[:2].requires_grad_()
    buffer.add_(1)
    assert p.is_leaf and p.requires_grad
    with pytest.raises(RuntimeError, match="leaf Variable"):
        p.add_(1)


# Function ----------------------------------------------------------------------------------------


class Cube(Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * a * a

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * 3 * a * a


class MinMax(Function):
    @staticmethod
    def forward(a, k):
        return a * k, -a

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.k = inputs[1]

    @staticmethod
    def backward(ctx, g1, g2):
        return g1 * ctx.k - g2, None


def double(*shape, device="cpu"):
    return gradient.randn(*shape, dtype=gradient.float64, device=device, requires_grad=True)


def test_a_users_function(device):
    a = double(3, device=device)
    assert gradcheck(Cube.apply, a)
    assert gradgradcheck(Cube.apply, a)


def test_a_function_of_several_results(device):
    a = double(3, device=device)
    assert gradcheck(lambda t: MinMax.apply(t, 4.0), a)
    first, _ = MinMax.apply(a, 4.0)
    first.sum().backward()
    assert_close(a.grad, gradient.full((3,), 4.0, dtype=gradient.float64, device=device))


def test_a_function_with_the_wrong_number_of_gradients(device):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            return g

    a = double(2, device=device)
    with pytest.raises(RuntimeError, match="Wrong.backward: expected 2 gradients.*got 1"):
        Wrong.apply(a, a).sum().backward()


def test_overwriting_what_a_function_saved_is_noticed(x):
    y = x * 1
    z = Cube.apply(y)
    with gradient.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match="Cube.*overwrote"):
        z.sum().backward()


class Exp(Function):
    @staticmethod
    def forward(ctx, a):
        out = a.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class ExpAndDouble(Function):
    @staticmethod
    def forward(ctx, a):
        out = a.exp()
        ctx.save_for_backward(out, a)
        return out, out * a

    @staticmethod
    def backward(ctx, g1, g2):
        out, a = ctx.saved_tensors
        return g1 * out + g2 * (out * a + out)


def test_a_function_may_save_its_results(device):
    a = double(3, device=device)
    assert gradgradcheck(Exp.apply, a)
    assert gradgradcheck(ExpAndDouble.apply, a)


def test_what_a_function_saved_is_freed():
    a = double(3)
    out = Exp.apply(a * 1)
    kept = weakref.ref(out.array)
    total = out.sum()
    del out
    total.backward()
    assert kept() is None
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        total.backward()


def test_a_function_that_writes_its_argument(device):
    class Double(Function):
        @staticmethod
        def forward(ctx, a):
            a.mul_(2)
            ctx.mark_dirty(a)
            return a

        @staticmethod
        def backward(ctx, g):
            return g * 2

    a = double(3, device=device)
    h = a * 3
    assert Double.apply(h) is h
    h.sum().backward()
    assert values(a.grad) == [6, 6, 6]
    with pytest.raises(RuntimeError, match="leaf Variable.*marked dirty"):
        Double.apply(double(2, device=device))


@pytest.mark.parametrize("mark", ["mark_dirty", "mark_non_differentiable"])
def test_a_function_holds_no_tensor_that_it_marked(mark):
    class Marked(Function):
        @staticmethod
        def forward(ctx, a):
            values = a.mul_(2) if mark == "mark_dirty" else a.argmax(-1)
            getattr(ctx, mark)(values)
            return a * 1, values

        @staticmethod
        def backward(ctx, g, unused):
            return g

    gc.collect()
    gc.disable()
    try:
        out, marked = Marked.apply(double(2, 3) * 1)
        kept = weakref.ref(marked.array)
        del marked
        assert kept() is None
        out.sum().backward()
    finally:
        gc.enable()


def test_a_function_with_a_gradient_of_the_wrong_shape(device):
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return g.reshape(3, 2)

    with pytest.raises(RuntimeError, match=re.escape("gradient of shape (2, 3)")):
        Wrong.apply(double(2, 3, device=device)).sum().backward()


def test_once_differentiable_refuses_a_second_time(device):
    class Once(Cube):
        backward = staticmethod(once_differentiable(Cube.backward))

    a = double(3, device=device)
    (g,) = grad((Once.apply(a) ** 2).sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


# Checkpoint --------------------------------------------------------------------------------------


def test_checkpoint_gives_the_same_gradients(device):
    w = double(4, 4, device=device)
    a = double(2, 4, device=device)

    def segment(t):
        return (t @ w).tanh() @ w

    plain = grad(segment(a).sum(), [a, w])
    saved = grad(checkpoint(segment, a).sum(), [a, w])
    for p, s in zip(plain, saved, strict=True):
        assert_close(s, p, rtol=0, atol=0)
    assert gradgradcheck(lambda t, u: checkpoint(lambda v: (v @ u).tanh(), t), (a, w))


def test_checkpoint_of_nested_results(x):
    out = checkpoint(lambda t, k: {"a": [t.sin() * k], "b": (t * t, t.argmax(), k)}, x, 2.0)
    square, place, k = out["b"]
    assert k == 2.0 and not place.requires_grad
    (out["a"][0] + square).sum().backward()
    assert gradient.allclose(x.grad, (2 * x.cos() + 2 * x).detach())


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_checkpoint_sequential(segments, x):
    net = gradient.nn.Sequential(*(gradient.nn.Tanh() for _ in range(5)))
    (found,) = grad(checkpoint_sequential(net, segments, x, use_reentrant=False).sum(), [x])
    assert found.equal(grad(net(x).sum(), [x])[0])


def test_checkpoint_keeps_no_activation():
    w = gradient.randn(4, 4, requires_grad=True)
    kept = []

    def segment(t):
        h = (t @ w).tanh()
        kept.append(weakref.ref(h.array))
        return h @ w

    out = checkpoint(segment, gradient.randn(2, 4))
    assert kept[0]() is None
    out.sum().backward()
    assert w.grad is not None


def test_checkpoint_repeats_its_random_numbers(device):
    a = gradient.ones(1000, device=device, requires_grad=True)
    gradient.manual_seed(3)
    out = checkpoint(lambda t: gradient.nn.functional.dropout(t, 0.5, training=True), a)
    after = gradient.rand(1).item()
    out.sum().backward()
    assert_close(a.grad, out.detach())
    gradient.manual_seed(3)
    gradient.nn.functional.dropout(a, 0.5, training=True)
    assert gradient.rand(1).item() == after


def test_checkpoint_of_tensors_that_depend_on_each_other(x):
    """The second run's backward pass ends at the segment's inputs, and leaves them their hooks."""
    seen = []
    h = x * x
    h.register_hook(lambda g: seen.append(values(g)))
    checkpoint(lambda a, b: a * b, h, x).sum().backward()
    assert values(x.grad) == [[3, 12], [27, 48]]
    assert seen == [[[1, 2], [3, 4]]]


def test_checkpoint_notices_an_argument_that_its_function_overwrites():
    x = gradient.ones(2, 3, requires_grad=True)
    y = checkpoint(lambda t: t.mul_(2) * t, x * 1)
    with pytest.raises(AutogradError, match="checkpoint .* 'argument 0' .* but mul_"):
        y.sum().backward()
    weights = gradient.arange(6.0).reshape(3, 2)
    checkpoint(lambda t: t.t_() * weights, x * 1).sum().backward()
    assert x.grad.tolist() == weights.t().tolist()


def test_checkpoint_notices_an_overwritten_argument(x):
    a = gradient.ones(2, 2, device=x.device)
    out = checkpoint(lambda t: t * x, a)
    a.mul_(5)
    with pytest.raises(RuntimeError, match="checkpoint .*saved its 'argument 0'.*mul_"):
        out.sum().backward()


@pytest.mark.parametrize("freeze", [lambda x: x.requires_grad_(False), lambda x: x.detach_()])
def test_a_leaf_that_is_frozen_before_the_backward_pass_gets_no_gradient(freeze):
    frozen, other = (gradient.ones(2, requires_grad=True) for _ in range(2))
    out = (frozen * other * 3)[:1]
    freeze(frozen)
    out.sum().backward()
    assert frozen.grad is None and other.grad.tolist() == [3, 0]


# Anomaly detection and gradcheck's report --------------------------------------------------------


def test_anomaly_detection_names_the_op_and_its_line(device):
    a = gradient.zeros(1, device=device, requires_grad=True)
    with detect_anomaly(), pytest.raises(AutogradError) as caught:
        b = a.sqrt() * 0  # the culprit
        b.sum().backward()
    message = str(caught.value)
    assert "SqrtBackward0 returned nan values" in message
    assert "# the culprit" in message


def test_anomaly_detection_shows_the_line_of_any_exception(device):
    class Broken(Cube):
        @staticmethod
        def backward(ctx, g):
            raise KeyError("broken")

    a = gradient.ones(1, device=device, requires_grad=True)
    with detect_anomaly():
        b = Broken.apply(a)  # the culprit
    with pytest.raises(KeyError, match="broken") as caught:
        b.sum().backward()
    assert "# the culprit" in "".join(caught.value.__notes__)


def test_gradcheck_finds_a_wrong_gradient(device):
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            wrong = g * 3 * a * a
            wrong[1] *= 1.01
            return wrong

    a = double(3, device=device)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(Wrong.apply, a)
    report = str(caught.value)
    assert "the gradient for input 0 of shape (3,) is wrong" in report
    assert report.splitlines()[3].split()[0] == "[1]"  # the worst element comes first
    assert not gradcheck(Wrong.apply, a, raise_exception=False)


class Moody(gradient.autograd.Function):
    """x * 2, with another gradient at each pass."""

    passes = 0

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        Moody.passes += 1
        return g * (2 + 1e-9 * Moody.passes)


class Forgetful(gradient.autograd.Function):
    """(x, x * 3), whose backward forgets the second result where the first has no gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 1, x * 3

    @staticmethod
    def backward(ctx, first, second):
        if first is None:
            return None
        return first if second is None else first + second * 3


class DetachedGradient(gradient.autograd.Function):
    """x ** 2, with a gradient that has none itself."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g.detach() * 2 * ctx.saved_tensors[0]


def test_gradcheck_finds_a_gradient_that_is_another_one_each_time(device):
    a = double(3, device=device)
    with pytest.raises(GradcheckError, match="gradient for input 0 differs by .* in a second pass"):
        gradcheck(Moody.apply, a)
    assert gradcheck(Moody.apply, a, nondet_tol=1e-6)


def test_gradcheck_that_is_to_look_at_nothing_fails(device):
    with pytest.raises(AssertionError, match="check_forward_ad or check_backward_ad"):
        gradcheck(lambda a: a * 2, double(3, device=device), check_backward_ad=False)


def test_gradcheck_takes_each_result_alone(device):
    a = double(3, device=device)
    with pytest.raises(GradcheckError, match="is not the sum of those of each result alone"):
        gradcheck(Forgetful.apply, a)
    assert gradcheck(Forgetful.apply, a, check_undefined_grad=False)


def test_gradcheck_of_derivatives_in_a_direction(device):
    a = double(3, device=device)
    assert gradcheck(DetachedGradient.apply, a)
    with pytest.raises(GradcheckError, match="the derivative in a direction for input 0"):
        gradcheck(DetachedGradient.apply, a, check_forward_ad=True)
    b = double(2, 3, device=device)
    assert gradcheck(lambda x, y: (x @ y.T, y.sum()), (b, b * 2), check_forward_ad=True)
    z = gradient.tensor([1 + 2j, 3 - 1j], dtype=gradient.cdouble, device=device, requires_grad=True)
    assert gradcheck(lambda z: (z * z).abs(), z, check_forward_ad=True, check_backward_ad=False)
    assert gradgradcheck(lambda x: x.sin() * x, a, check_fwd_over_rev=True)


def test_gradcheck_takes_pytorchs_arguments(device):
    options = dict.fromkeys(
        ("check_batched_grad", "check_grad_dtypes", "fast_mode", "masked"), True
    )
    a = double(3, device=device)
    assert gradcheck(gradient.exp, a, **options, check_batched_forward_grad=True)
    assert gradgradcheck(gradient.exp, a, **options, gen_non_contig_grad_outputs=True)


def test_gradcheck_wants_float64(x):
    with pytest.raises(ValueError, match="float64"):
        gradcheck(lambda t: t * 2, x)


def test_gradients_do_not_depend_on_the_order_of_accumulation(device):
    rng = np.random.default_rng(0)
    a = gradient.tensor(rng.standard_normal(100), device=device, requires_grad=True)
    grads = []
    for _ in range(3):
        (g,) = grad((a.exp() + a * a + a.tanh()).sum(), a)
        grads.append(g)
    assert_close(grads[0], grads[1], rtol=0, atol=0)
    assert_close(grads[0], grads[2], rtol=0, atol=0)


def test_a_gradient_that_cannot_be_added_to_is_told_of():
    x = gradient.ones(3, requires_grad=True)
    x.grad = gradient.ones(1).expand(3)
    with pytest.raises(RuntimeError, match=r"\.grad cannot be written .* clone\(\) it"):
        (x * 2).sum().backward()
    x.grad = gradient.ones(3)
    x.data = gradient.zeros(2)
    with pytest.raises(RuntimeError, match=r"has shape \(3,\) but its gradient has shape \(2,\)"):
        x.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_writes_by_data_are_not_noted():
    """As in PyTorch; torchdiffeq fills its buffer so."""
    x = gradient.ones(3, 4)
    w = gradient.ones(3, 4, requires_grad=True)
    y = (x[:, :2] * w[:, :2]).sum()
    x.data[:, 2] = 5.0
    x.data[1:][:, 3].zero_()
    gradient._foreach_add_([x.data[2:, 2:]], 1.0)
    y.backward()
    assert w.grad[:, :2].min() == 1 and x[0, 2] == 5 and x[2, 2] == 6
    y = (x * w).sum()
    x.detach().mul_(2)
    with pytest.raises(RuntimeError, match="overwrote it in place"):
        y.backward()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: gradient.nn.functional.nll_loss(x, gradient.tensor([0, 1])), "NllLossBackward0"),
        (lambda x: x.gather(1, gradient.tensor([[0], [1]])), "GatherBackward0"),
        (lambda x: x.half(), "ToBackward0"),
    ],
)
def test_a_grad_fn_has_the_name_of_the_op_that_users_know(function, name):
    y = function(gradient.ones(2, 2, requires_grad=True))
    assert y.grad_fn is not None and y.grad_fn.name() == name


def test_a_grad_fn_of_a_function_has_its_name():
    class Doubled(gradient.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = gradient.ones(2, requires_grad=True)
    assert Doubled.apply(x).grad_fn.name() == "DoubledBackward"
    assert repr((x + 1).grad_fn) == "<AddBackward0>"


def test_a_number_of_another_device_makes_no_function_anew(monkeypatch):
    from gradient.autograd import calls

    number, x = gradient.tensor(2.0), gradient.ones(3, device="meta")
    assert (number * x).shape == (3,)
    monkeypatch.setattr(calls, "of_two", None)
    assert (number * x).shape == (3,)


def test_the_gradient_of_a_part_is_added_to_that_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop over T steps does not fill T arrays of all steps with zeros."""
    made = []
    place = type(backends.get("cpu")).place

    def placed(self: Any, x: Any, shape: Any, index: Any) -> Any:
        made.append(shape)
        return place(self, x, shape, index)

    monkeypatch.setattr(type(backends.get("cpu")), "place", placed)
    x = gradient.randn(3, 20, 4, requires_grad=True)
    state: Any = 0.0
    for t in range(20):
        state = state * 0.5 + x[:, t]
    state.sum().backward()
    assert len(made) <= 2
    expected = (0.5 ** gradient.arange(19, -1, -1).float()).reshape(1, 20, 1).expand(3, 20, 4)
    gradient.testing.assert_close(x.grad, expected)


def test_gradients_of_parts_that_overlap() -> None:
    def function(x: gradient.Tensor) -> gradient.Tensor:
        parts = [x[0], x[1], x[:, 1:3], x[..., ::2], x[None, 2], x.flip(0)[0], x[2, 1], x[[0, 0]]]
        return sum(((i + 1) * part * part).sum() for i, part in enumerate(parts)) * x[1].sum()

    x = gradient.randn(3, 4, dtype=gradient.float64, requires_grad=True)
    assert gradient.autograd.gradcheck(function, (x,))
    assert gradient.autograd.gradgradcheck(function, (x,))
    kept = function(x)
    kept.backward(retain_graph=True)
    first = x.grad.clone()
    x.grad = None
    kept.backward()
    gradient.testing.assert_close(x.grad, first)
