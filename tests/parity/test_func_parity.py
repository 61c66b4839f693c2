"""Transforms of functions give PyTorch's derivatives, and so do `autograd.functional`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.autograd.trees import leaves_of

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
torch = pytest.importorskip("torch")

X, Y, A = np.linspace(0.2, 1.7, 4), np.linspace(-1.0, 2.0, 4), np.cos(np.arange(12.0)).reshape(3, 4)


def f(x: Any) -> Any:
    return (x.sin() * x**2).sum()


def g(x: Any, y: Any) -> Any:
    return {"a": x.exp() * y, "b": (x * y).sum()}


def loss(p: Any) -> Callable[..., Any]:
    def of(params: Any, x: Any) -> Any:
        return ((params["w"] @ x).tanh() + params["b"]).square().sum()

    return of


def params(p: Any) -> Any:
    return {"w": p.tensor(A), "b": p.tensor(Y[:3])}


def t(p: Any, *arrays: Any) -> Any:
    return tuple(p.tensor(a) for a in arrays)


CALLS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda p: p.func.grad(f)(p.tensor(X)),
    "grad of grad": lambda p: p.func.grad(lambda x: p.func.grad(f)(x).sum())(p.tensor(X)),
    "grad by two": lambda p: p.func.grad(lambda x, y: (x * y**2).sum(), (0, 1))(*t(p, X, Y)),
    "grad by the last": lambda p: p.func.grad(lambda x, y: (x * y**2).sum(), -1)(*t(p, X, Y)),
    "grad of a dict": lambda p: p.func.grad(loss(p))(params(p), p.tensor(X)),
    "grad with aux": lambda p: p.func.grad(lambda x: (f(x), x * 2), has_aux=True)(p.tensor(X)),
    "grad_and_value": lambda p: p.func.grad_and_value(f)(p.tensor(X)),
    "grad of a constant": lambda p: p.func.grad(lambda x: p.ones(()))(p.tensor(X)),
    "vjp": lambda p: p.func.vjp(g, *t(p, X, Y))[1]({"a": p.tensor(Y), "b": p.tensor(2.0).double()}),
    "vjp's value": lambda p: p.func.vjp(g, *t(p, X, Y))[0],
    "vjp of one": lambda p: p.func.vjp(lambda x: x**3, p.tensor(X))[1](p.tensor(Y)),
    "jvp": lambda p: p.func.jvp(g, t(p, X, Y), t(p, Y, X)),
    "jvp of grad": lambda p: p.func.jvp(p.func.grad(f), t(p, X), t(p, Y)),
    "grad of jvp": lambda p: p.func.grad(
        lambda x: p.func.jvp(lambda z: z.sin() * x, (x,), (p.tensor(Y),))[1].sum()
    )(p.tensor(X)),
    "jacrev": lambda p: p.func.jacrev(lambda x: p.tensor(A) @ x.sin())(p.tensor(X)),
    "jacrev of a dict": lambda p: p.func.jacrev(g, (0, 1))(*t(p, X, Y)),
    "jacfwd": lambda p: p.func.jacfwd(lambda x: p.tensor(A) @ x.sin())(p.tensor(X)),
    "jacfwd of a dict": lambda p: p.func.jacfwd(g, 1)(*t(p, X, Y)),
    "hessian": lambda p: p.func.hessian(f)(p.tensor(X)),
    "hessian by two": lambda p: p.func.hessian(lambda x, y: (x**2 * y).sum(), (0, 1))(*t(p, X, Y)),
    "vmap": lambda p: p.func.vmap(lambda x: x @ p.tensor(X))(p.tensor(A)),
    "vmap with dims": lambda p: p.func.vmap(lambda x, y: (x * y, x), (1, None), (0, 1))(
        *t(p, A, Y[:3])
    ),
    "vmap of grad": lambda p: p.func.vmap(p.func.grad(f))(p.tensor(A)),
    "samples' gradients": lambda p: p.func.vmap(p.func.grad(loss(p)), (None, 0))(
        params(p), p.tensor(A)
    ),
    "vmap of vmap": lambda p: p.vmap(p.vmap(lambda x, y: x * y), (0, None))(*t(p, A, Y)),
    "vmap of dicts": lambda p: p.func.vmap(lambda d: d["w"].sum() + d["b"], ({"w": 0, "b": 0},))(
        params(p)
    ),
    "vmap of an empty batch": lambda p: p.func.vmap(lambda x: x.sum(), out_dims=-1)(p.zeros(0, 3)),
    "vmap shares what comes by name": lambda p: p.func.vmap(lambda x, y=None: x + y)(
        p.tensor(A), y=p.tensor(A[:, :1])
    ),
    "vmap with the same random numbers": lambda p: p.func.vmap(
        lambda x: p.rand(4) + 0 * x, randomness="same"
    )(p.tensor(A)).diff(dim=0),
    "vmap of a constant": lambda p: p.func.vmap(lambda x: p.tensor(Y), out_dims=None)(p.tensor(A)),
    "jacobian": lambda p: p.autograd.functional.jacobian(lambda x: x**3, p.tensor(X)),
    "jacobian of several": lambda p: p.autograd.functional.jacobian(
        lambda x, y: (x * y, y.sum()), t(p, X, Y)
    ),
    "functional.hessian": lambda p: p.autograd.functional.hessian(f, p.tensor(X)),
    "functional.hessian by two": lambda p: p.autograd.functional.hessian(
        lambda x, y: (x**2 * y).sum(), t(p, X, Y)
    ),
    "functional.vjp": lambda p: p.autograd.functional.vjp(lambda x: x**3, *t(p, X, Y)),
    "functional.jvp": lambda p: p.autograd.functional.jvp(
        lambda x, y: x * y**2, t(p, X, Y), t(p, Y, X)
    ),
    "hvp": lambda p: p.autograd.functional.hvp(f, *t(p, X, Y)),
    "vhp": lambda p: p.autograd.functional.vhp(f, *t(p, X, Y)),
}


@pytest.mark.parametrize("name", CALLS)
def test_values(name: str) -> None:
    found, wanted = CALLS[name](gradient), CALLS[name](torch)
    mine, others = leaves_of(found), leaves_of(wanted)
    assert len(mine) == len(others)
    for one, other in zip(mine, others, strict=True):
        assert not one.requires_grad
        assert tuple(one.shape) == tuple(other.shape)
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-10, atol=1e-13)


def test_vjp_gives_one_product_for_each_primal() -> None:
    for p in (gradient, torch):
        (found,) = p.func.vjp(lambda x: x**3, p.tensor(X))[1](p.tensor(Y))
        np.testing.assert_allclose(found.numpy(), 3 * X**2 * Y)


def test_linearize_gives_the_products_of_jvp() -> None:
    x, y = t(gradient, X, Y)
    value, product = gradient.func.linearize(gradient.sin, x)
    wanted = gradient.func.jvp(gradient.sin, (x,), (y,))
    assert value.equal(wanted[0]) and product(y).equal(wanted[1])


def test_a_graph_of_the_callers_goes_on() -> None:
    found = []
    for p in (gradient, torch):
        x, w = (p.tensor(a).requires_grad_() for a in (X, Y))
        made = p.func.grad(lambda z, w=w: (z**3 * w).sum())(x)
        made.sum().backward()
        found.append([x.grad.numpy(), w.grad.numpy()])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other)


def test_modules_as_functions() -> None:
    found = []
    for p in (gradient, torch):
        model = p.nn.Sequential(p.nn.Linear(4, 2), p.nn.BatchNorm1d(2)).double()
        state = {"0.weight": p.tensor(A[:2]), "0.bias": p.tensor(X[:2])}
        before = {k: id(v) for k, v in model.named_parameters()}
        result = p.func.functional_call(model, state, p.tensor(A))
        found.append(result.detach().numpy())
        assert {k: id(v) for k, v in model.named_parameters()} == before
        assert int(model[1].num_batches_tracked) == 1  # the module's own buffer
        p.func.functional_call(model, {"absent": p.ones(1)}, p.tensor(A))
        with pytest.raises((RuntimeError, ValueError)):
            p.func.functional_call(model, state, p.tensor(A), strict=True)
        weights, buffers = p.func.stack_module_state([model, model])
        assert weights["0.weight"].shape == (2, 2, 4) and buffers["1.running_var"].shape == (2, 2)
    np.testing.assert_allclose(*found, rtol=1e-10)


MISTAKES: list[Callable[[Any], Any]] = [
    lambda p: p.func.grad(lambda x: x)(p.tensor(X)),
    lambda p: p.func.grad(f, 1)(p.tensor(X)),
    lambda p: p.func.vmap(lambda x, y: x * y)(*t(p, X, Y[:3])),
    lambda p: p.func.vmap(lambda x: x, in_dims=None)(p.tensor(X)),
    lambda p: p.func.vmap(lambda x: 1)(p.tensor(X)),
    lambda p: p.func.jvp(f, t(p, X), t(p, X[:2])),
    lambda p: p.func.jvp(f, p.tensor(X), p.tensor(X)),
    lambda p: p.func.vjp(f, p.tensor(X))[1](t(p, 1.0)),
    lambda p: p.func.vmap(lambda x: x)(p.tensor(1.0)),
    lambda p: p.func.vmap(lambda x, n: x * n)(p.tensor(A), 2),
    lambda p: p.func.vmap(lambda x: x + p.rand(4))(p.tensor(A)),
    lambda p: p.func.vmap(lambda x: x, out_dims=None)(p.tensor(A)),
    lambda p: p.func.vmap(lambda x: x, chunk_size=0)(p.tensor(A)),
    lambda p: p.func.functional_call(
        tied(p), {"0.weight": p.ones(2, 2), "1.weight": p.zeros(2, 2)}
    ),
]


def tied(p: Any) -> Any:
    model = p.nn.Sequential(p.nn.Linear(2, 2), p.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_raise(mistake: Callable[[Any], Any]) -> None:
    for package in (torch, gradient):
        with pytest.raises((RuntimeError, ValueError)):
            mistake(package)
