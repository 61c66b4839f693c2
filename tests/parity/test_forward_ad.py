"""Dual tensors: values and tangents under both packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from support.both_packages import assert_alike  # noqa: E402

rng = np.random.default_rng(0)


def real(*size: int) -> np.ndarray:
    return rng.standard_normal(size)


def complex_(*size: int) -> np.ndarray:
    return real(*size) + 1j * real(*size)


FUNCTIONS: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "sine of squares": (lambda t, x: (x * x).sin(), [real(3)]),
    "a product": (lambda t, x, y: x @ y, [real(3, 2), real(2, 3)]),
    "softmax": (lambda t, x: t.softmax(x, -1), [real(2, 4)]),
    "layer_norm": (lambda t, x: t.nn.functional.layer_norm(x, (4,)), [real(2, 4)]),
    "0 times": (lambda t, x: x * 0, [real(3)]),
    "itself": (lambda t, x: x, [real(3)]),
    "nothing": (lambda t, x: x.sum(), [real(0)]),
    "one of several results": (lambda t, x: (x * 2).chunk(2)[1], [real(4)]),
    "another tensor": (lambda t, x: t.ones(2), [real(3)]),
    "detached": (lambda t, x: (x * 2).detach(), [real(3)]),
    "complex squares": (lambda t, x: x * x * (1 + 2j), [complex_(3)]),
    "absolute values": (lambda t, x: x.abs(), [complex_(3)]),
    "a conjugate": (lambda t, x: x.conj() * x, [complex_(3)]),
    "a real part": (lambda t, x: (x * (2 - 1j)).real, [complex_(3)]),
    "real to complex": (lambda t, x: x * (2 - 1j), [real(3)]),
}


def forward_ad(t: Any) -> Any:
    return importlib.import_module(f"{t.__name__}.autograd.forward_ad")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tangents(name):
    function, inputs = FUNCTIONS[name]

    def unpacked(t: Any) -> Any:
        fw = forward_ad(t)
        with fw.dual_level():
            duals = [fw.make_dual(t.tensor(x), t.tensor(np.roll(x, 1) + 0.5)) for x in inputs]
            found = fw.unpack_dual(function(t, *duals))
            return tuple(x if x is None else x.detach() for x in found)

    assert_alike(unpacked)


def test_tangents_of_a_modules_weights():
    def moved(t: Any) -> Any:
        fw, layer = forward_ad(t), t.nn.Linear(2, 2)
        for p in layer.parameters():
            t.nn.init.ones_(p)
        with fw.dual_level():
            for name, p in list(layer.named_parameters()):
                delattr(layer, name)
                setattr(layer, name, fw.make_dual(p.detach(), t.ones_like(p)))
            return fw.unpack_dual(layer(t.tensor([1.0, 2.0]))).tangent.detach()

    assert_alike(moved)


def test_derivatives_of_tangents():
    def slope(t: Any) -> Any:
        fw = forward_ad(t)
        x = t.tensor([1.0, 2.0], requires_grad=True)
        with fw.dual_level():
            tangent = fw.unpack_dual(fw.make_dual(x, t.tensor([1.0, 3.0])) ** 3).tangent
            return t.autograd.grad(tangent.sum(), x)[0]

    assert_alike(slope)


REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "outside of a level": lambda t, fw: fw.make_dual(t.ones(1), t.ones(1)),
    "another shape": lambda t, fw: within(fw, lambda: fw.make_dual(t.ones(2), t.ones(3))),
    "ints": lambda t, fw: within(fw, lambda: fw.make_dual(t.tensor([1]), t.ones(1))),
    "a level within": lambda t, fw: within(fw, fw.enter_dual_level),
    "none to end": lambda t, fw: fw.exit_dual_level(),
    "unpacked outside": lambda t, fw: fw.unpack_dual(
        within(fw, lambda: fw.make_dual(t.ones(1), t.ones(1)))
    )[1],
}


def within(fw: Any, call: Callable[[], Any]) -> Any:
    with fw.dual_level():
        return call()


@pytest.mark.parametrize("name", REFUSED)
def test_levels(name):
    assert_alike(lambda t: REFUSED[name](t, forward_ad(t)))


def test_values_leave_the_graph():
    fw = forward_ad(gradient)
    with fw.dual_level():
        found = fw.unpack_dual(fw.make_dual(gradient.ones(1), gradient.ones(1)) * 2)
    assert not found.primal.requires_grad and not found.tangent.requires_grad
