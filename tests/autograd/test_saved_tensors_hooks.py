"""Hooks on saved tensors: what they pack comes back for the gradients, of any order."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.autograd.saved_hooks import (
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)

F = gradient.nn.functional


def loss_of(w: Any, x: Any) -> Any:
    hidden = F.layer_norm((x @ w).tanh(), (3,))
    return (hidden.softmax(-1) * hidden.exp()).sum() + (w * w)[0].sum()


def inputs() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    w, x = (gradient.tensor(rng.standard_normal(size)) for size in ((4, 3), (2, 4)))
    return w.requires_grad_(), x.requires_grad_()


def test_gradients_are_those_without_hooks() -> None:
    w, x = inputs()
    expected = gradient.autograd.grad(loss_of(w, x), [w, x])
    packed: list[Any] = []

    def pack(tensor: Any) -> Any:
        assert not tensor.requires_grad and not gradient.is_grad_enabled()
        packed.append(tensor.shape)
        return tensor.numpy().tobytes(), tensor.shape

    def unpack(kept: Any) -> Any:
        return gradient.from_numpy(np.frombuffer(kept[0]).reshape(kept[1]).copy())

    with saved_tensors_hooks(pack, unpack):
        loss = loss_of(w, x)
    count = len(packed)
    assert count > 5
    for _ in range(2):
        found = gradient.autograd.grad(loss, [w, x], retain_graph=True)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    loss_of(w, x).backward()
    assert len(packed) == count  # outside of the block


def test_a_second_derivative() -> None:
    w, x = inputs()
    with saved_tensors_hooks(lambda t: t.numpy().copy(), gradient.from_numpy):
        hooked = loss_of(w, x)
    found = []
    for loss in (loss_of(w, x), hooked):
        (slope,) = gradient.autograd.grad(loss, w, create_graph=True)
        found.append(gradient.autograd.grad((slope**2).sum(), [w, x]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)


def test_the_innermost_pair_counts() -> None:
    x = gradient.tensor([3.0], requires_grad=True)
    with saved_tensors_hooks(lambda t: t, lambda t: t * 10):
        with saved_tensors_hooks(lambda t: t * 2, lambda t: t):
            y = x * x
        z = x * x
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [12.0]
    x.grad = None
    z.backward()
    assert x.grad.tolist() == [60.0]


def test_a_function_of_the_users() -> None:
    class Square(gradient.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = gradient.tensor([3.0], requires_grad=True)
    with saved_tensors_hooks(lambda t: t.numpy(), lambda a: gradient.tensor(a * 2)):
        y = Square.apply(x)
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [12.0]


def test_with_the_detection_of_anomalies() -> None:
    x = gradient.tensor([0.0], requires_grad=True)
    with gradient.autograd.detect_anomaly():
        with saved_tensors_hooks(lambda t: t, lambda t: t):
            y = x.sqrt() * 0
        with pytest.raises(RuntimeError, match="sqrt"):
            y.backward()
    x.sqrt().backward()


def test_saving_on_the_cpu() -> None:
    w, x = inputs()
    expected = gradient.autograd.grad(loss_of(w, x), [w, x])
    with save_on_cpu(pin_memory=True):
        loss = loss_of(w, x)
    for one, other in zip(gradient.autograd.grad(loss, [w, x]), expected, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_mistakes() -> None:
    x = gradient.tensor([3.0], requires_grad=True)
    with saved_tensors_hooks(lambda t: 1, lambda packed: packed):
        y = x * x
    with pytest.raises(TypeError, match="expected a Tensor of unpack_hook, got int"):
        y.backward()
    with disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match="not here"), save_on_cpu():
            pass
        (x * x).backward()
    with save_on_cpu():
        (x * x).backward()


def test_one_object_is_entered_several_times() -> None:
    packed: list[Any] = []
    hooks = saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t)
    x = gradient.tensor([3.0], requires_grad=True)
    with hooks:
        with hooks:
            pass
        x * x
        assert packed
    packed.clear()
    x * x
    assert not packed

    inside, left = threading.Event(), threading.Event()

    def other() -> None:
        with gradient.no_grad(), hooks:
            inside.set()
            left.wait()

    thread = threading.Thread(target=other)
    with hooks:
        thread.start()
        inside.wait()
    left.set()
    thread.join()
    x * x
    assert not packed and (x * x).requires_grad


@pytest.mark.parametrize("pack", [lambda t: t, lambda t: t.detach(), lambda t: {"kept": t}])
def test_what_is_overwritten_where_it_was_computed_was_packed_before(pack: Any) -> None:
    found = []
    for hooks in (
        contextlib.nullcontext(),
        saved_tensors_hooks(pack, lambda t: t["kept"] if isinstance(t, dict) else t),
    ):
        w = gradient.tensor([2.0, 3.0], requires_grad=True)
        v = gradient.tensor([5.0, 7.0], requires_grad=True)
        with hooks:
            a = w * 1
            a.mul_(v).mul_(v)
            a /= v
            a.div_(10.0).pow_(v).cumsum_(0).addcmul_(v, v).sigmoid_()
        a.sum().backward()
        found.append((a.tolist(), w.grad.tolist(), v.grad.tolist()))
    assert found[0] == found[1]
