"""Tensors made under `inference_mode`: outside of it they are neither written nor saved."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn, optim
from gradient.errors import AutogradError


@pytest.fixture
def made(device: str) -> Any:
    with gradient.inference_mode():
        return gradient.ones(3, device=device)


def set_item(x: Any) -> None:
    x[0] = 2.0


WRITES = {
    "add_": lambda x: x.add_(1),
    "iadd": lambda x: x.__iadd__(1),
    "setitem": set_item,
    "view": lambda x: x[:1].add_(1),
    "reshaped": lambda x: x.reshape(1, 3).zero_(),
    "bits": lambda x: x.view(gradient.int32).zero_(),
    "detached": lambda x: x.detach().mul_(2),
    "fill_": lambda x: x.fill_(2),
    "copy_": lambda x: x.copy_(gradient.zeros(3)),
    "normal_": lambda x: x.normal_(),
    "bernoulli_": lambda x: x.bernoulli_(0.5),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_it_is_not_written_outside(made: Any, write: Any) -> None:
    message = "made under inference_mode cannot be written outside of it; clone"
    with pytest.raises(AutogradError, match=message):
        write(made)
    with gradient.no_grad(), pytest.raises(AutogradError, match=message):
        write(made)
    assert made.tolist() == [1, 1, 1]
    with gradient.inference_mode():
        write(made)
    write(made.clone())


def test_ops_on_it_give_ordinary_tensors_and_its_views_are_marked(made: Any) -> None:
    for marked in (made, made[0], made.view(3, 1), made.detach(), made.data, made.split(1)[0]):
        assert marked.is_inference()
    for plain in (made + 1, made.exp(), made.clone(), made[[0, 1]], made.sum()):
        assert not plain.is_inference()


def test_inside_it_views_of_ordinary_tensors_are_ordinary(device: str) -> None:
    x = gradient.ones(2, 3, device=device)
    with gradient.inference_mode():
        for plain in (x[0], x.t(), x.detach(), x.unbind(0)[1], x.contiguous(), x.add_(1)):
            assert not plain.is_inference()
        for marked in (
            x + 1,
            x.sum(),
            x.clone(),
            x @ x.T,
            gradient.where(x > 0, x, x),
            x.max(0)[1],
        ):
            assert marked.is_inference()
        for new in (gradient.from_numpy(np.ones(2)), gradient.tensor([1.0]), gradient.randn(2)):
            assert new.is_inference()
        view = x[0]
    view.add_(1)
    assert x.tolist() == [[3, 3, 3], [2, 2, 2]]


def test_it_is_not_saved_for_a_backward_pass(made: Any, device: str) -> None:
    w = gradient.ones(3, requires_grad=True, device=device)
    message = "made under inference_mode cannot be saved"
    for call in (
        lambda: w * made,
        lambda: made.reshape(1, 3) @ w,
        lambda: gradient.addcmul(w, w, made),
        lambda: nn.Linear(3, 2, device=device)(made),
        lambda: nn.functional.layer_norm(made, (3,), w),
    ):
        with pytest.raises(AutogradError, match=message):
            call()
    (w + made).sum().backward()  # saves nothing
    (w * made.clone()).sum().backward()
    (w.detach() * made).sum()
    assert w.grad.tolist() == [2, 2, 2]


def test_a_function_does_not_save_it(made: Any) -> None:
    class Scale(gradient.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, by: Any) -> Any:
            ctx.save_for_backward(by)
            return x * by

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0], None

    w = gradient.ones(3, requires_grad=True, device=made.device)
    with pytest.raises(AutogradError, match="Scale: a tensor made under inference_mode cannot"):
        Scale.apply(w, made)
    assert Scale.apply(w, made.clone()).tolist() == [1, 1, 1]


def test_it_cannot_require_a_gradient_outside(made: Any) -> None:
    for ask in (made.requires_grad_, lambda: nn.Parameter(made)):
        with pytest.raises(AutogradError, match="cannot require a gradient outside"):
            ask()
    assert nn.Parameter(made, requires_grad=False).is_inference()
    with gradient.inference_mode():
        p = nn.Parameter(gradient.ones(2))
        assert p.is_inference() and p.requires_grad
    p.grad = gradient.ones(2)
    with pytest.raises(AutogradError, match="SGD.step: a tensor made under inference_mode"):
        optim.SGD([p], lr=0.1).step()


def test_leaving_the_mode_inside_it() -> None:
    with gradient.inference_mode():
        with gradient.inference_mode(False):
            assert gradient.is_grad_enabled() and not gradient.is_inference_mode_enabled()
            assert not gradient.ones(2).is_inference()
        assert gradient.is_inference_mode_enabled() and not gradient.is_grad_enabled()
    with gradient.no_grad(), gradient.inference_mode(False):
        assert gradient.is_grad_enabled()


def test_the_mode_is_the_threads_own() -> None:
    results = []
    with gradient.inference_mode():
        thread = threading.Thread(target=lambda: results.append(gradient.ones(2) + 1))
        thread.start()
        thread.join()
    assert not results[0].is_inference()
