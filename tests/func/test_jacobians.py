"""Jacobians and vmapped gradients: the function is called on the tensors that it was given, and its
graph is then differentiated for all samples at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import support.array_backends  # noqa: F401 (registers the device "handle")
from gradient import nn
from gradient.autograd.functional import jacobian
from gradient.errors import ArgumentError, AutogradError
from gradient.func import grad, hessian, jacfwd, jacrev, vjp, vmap
from gradient.testing import assert_close
from gradient.utils.checkpoint import checkpoint

X = gradient.tensor(np.sin(np.arange(12.0)).reshape(3, 4))
W = gradient.tensor(np.cos(np.arange(16.0)).reshape(4, 4))

TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "jacobian": lambda f: lambda x: jacobian(f, x),
}


def written(x: Any) -> Any:
    out = gradient.zeros(4, dtype=gradient.float64)
    out[0] = x[1] * x[2]
    out[1:3].copy_(x[:2] ** 2)
    out.add_(x)
    return out


def written_out_of_place(x: Any) -> Any:
    return gradient.stack([x[1] * x[2], x[0] ** 2, x[1] ** 2, x[3] * 0]) + x


def looked_at(x: Any) -> Any:
    assert x.backend is X.backend and x.detach().numpy().shape == (4,)
    return x * x.detach().sum().item() if x.sum() > 0 else x[x < 0]


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "writes to a new tensor": (written, written_out_of_place),
    "reads values": (looked_at, lambda x: x * X[0].sum()),
    "checkpoint": (
        lambda x: checkpoint(lambda y: (W @ y).tanh(), x.sin(), use_reentrant=False) * 2,
        lambda x: (W @ x.sin()).tanh() * 2,
    ),
    "checkpoint of two results": (
        lambda x: sum(checkpoint(lambda y: ((W @ y).tanh(), y * y), x, use_reentrant=False)),
        lambda x: (W @ x).tanh() + x * x,
    ),
    "vmap": (lambda x: vmap(lambda w: (w * x).prod())(W), lambda x: (W * x).prod(1)),
    "means in vmap": (
        lambda x: vmap(lambda row: row * row.mean())(W * x).sum(0),
        lambda x: (W * x * (W * x).mean(1, keepdim=True)).sum(0),
    ),
    "writes in vmap": (
        lambda x: vmap(lambda w, y: w.mul_(y), (0, None))(W * x, x).sum(0),
        lambda x: (W * x * x).sum(0),
    ),
    "checkpoint in vmap": (
        lambda x: vmap(lambda w: checkpoint(lambda y: (y * x).sin(), w, use_reentrant=False))(
            W * x
        ).sum(0),
        lambda x: (W * x * x).sin().sum(0),
    ),
    "another device": (
        lambda x: x.to("handle").sin().cumsum(0).to("cpu") * x,
        lambda x: x.sin().cumsum(0) * x,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_functions_see_the_tensors_that_they_are_given(transform: str, name: str) -> None:
    function, plain = FUNCTIONS[name]
    compute = TRANSFORMS[transform]
    wanted = gradient.stack(
        [gradient.autograd.grad(plain(x)[i], x)[0] for i in range(4) for x in [leaf(X[0])]]
    )
    assert_close(compute(function)(X[0]), wanted)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name: str) -> None:
    function, plain = FUNCTIONS[name]
    wanted = jacrev(lambda x: jacrev(plain)(x))(X[0])
    assert_close(jacrev(jacrev(function))(X[0]), wanted)
    assert_close(jacfwd(jacrev(function))(X[0]), wanted)
    assert_close(jacfwd(jacfwd(function))(X[0]), wanted)
    assert_close(
        hessian(lambda x: function(x).square().sum())(X[0]),
        hessian(lambda x: plain(x).square().sum())(X[0]),
    )


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "device" not in n and "read" not in n])
def test_jacobians_of_samples(name: str) -> None:
    function, plain = FUNCTIONS[name]
    if name == "writes to a new tensor":  # in vmap this one must have a place for each sample
        function = plain
    assert_close(vmap(jacrev(function))(X), vmap(jacrev(plain))(X))
    assert_close(vmap(jacfwd(function))(X), vmap(jacrev(plain))(X))


def leaf(x: Any) -> Any:
    return x.clone().requires_grad_()


def test_running_statistics_are_written() -> None:
    norm = nn.BatchNorm1d(4).double()
    found = jacobian(lambda x: norm(x).sum(0), X)
    assert norm.num_batches_tracked == 1 and norm.running_mean.backend is X.backend
    again = nn.BatchNorm1d(4).double()
    x = leaf(X)
    out = again(x).sum(0)
    rows = [gradient.autograd.grad(out[i], x, retain_graph=True)[0] for i in range(4)]
    assert_close(found, gradient.stack(rows))
    assert_close(norm.running_mean, again.running_mean)


def test_vmap_of_the_function_of_vjp() -> None:
    def function(x: Any) -> Any:
        return vmap(lambda row: row.sin().prod())(x), (x @ W).tanh()

    value, product = vjp(function, X)
    first, second = gradient.eye(3, dtype=gradient.float64), gradient.ones(3, 3, 4).double()
    (found,) = vmap(product)((first, second))
    wanted = [product((a, b))[0] for a, b in zip(first, second, strict=True)]
    assert_close(found, gradient.stack(wanted))


def test_vmaps_of_the_function_of_vjp_of_a_checkpoint() -> None:
    _, product = vjp(FUNCTIONS["checkpoint in vmap"][0], X[0])
    _, plain = vjp(FUNCTIONS["checkpoint in vmap"][1], X[0])
    cotangents = gradient.tensor(np.sin(np.arange(24.0)).reshape(2, 3, 4))
    assert_close(vmap(vmap(product))(cotangents), vmap(vmap(plain))(cotangents))
    wanted = gradient.stack([plain(c)[0] for c in cotangents.reshape(6, 4)]).reshape(2, 3, 4)
    assert_close(vmap(vmap(product))(cotangents)[0], wanted)
    assert vmap(product)(cotangents[0, :0])[0].shape == (0, 4)


class Cubed(gradient.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 3 * ctx.saved_tensors[0] ** 2 * g


def test_functions_with_a_backward_of_their_own() -> None:
    def function(x: Any) -> Any:
        return Cubed.apply(x.sin()) * x

    def plain(x: Any) -> Any:
        return x.sin() ** 3 * x

    for transform in (jacrev, jacfwd, lambda f: jacrev(jacrev(f))):
        assert_close(transform(function)(X[0]), transform(plain)(X[0]))
    assert_close(vmap(jacrev(function))(X), vmap(jacrev(plain))(X))


def test_saved_tensor_hooks_and_hooks_of_tensors() -> None:
    shapes = []

    def function(x: Any) -> Any:
        y = x * 2
        y.register_hook(lambda g: shapes.append(tuple(g.shape)) or g * 3)
        y.retain_grad()
        return y.sin() * x

    with gradient.autograd.graph.save_on_cpu():
        found = jacrev(function)(X[0])
    wanted = (X[0] * 6 * (X[0] * 2).cos() + (X[0] * 2).sin()).diag()
    assert_close(found, wanted)
    assert shapes == [(4,)]


def test_an_overwritten_value_is_noticed() -> None:
    def function(x: Any) -> Any:
        y = x * 1
        out = y.sin()
        y.mul_(2)
        return out

    for transform in (jacrev, jacfwd):
        with pytest.raises(AutogradError, match="overwrote it in place"):
            transform(function)(X[0])


def test_a_leaf_of_the_callers_beside_the_argument() -> None:
    w, v = leaf(W), leaf(W)
    jacrev(lambda x: (w @ x).sin())(X[0]).square().sum().backward()
    rows = [((v @ X[0]).cos()[i] * v[i]) for i in range(4)]
    gradient.stack(rows).square().sum().backward()
    assert_close(w.grad, v.grad)


def test_results_and_arguments_of_no_elements() -> None:
    for transform in (jacrev, jacfwd):
        assert transform(lambda x: x[:0])(X[0]).shape == (0, 4)
        assert vmap(transform(lambda x: x[:0]))(X).shape == (3, 0, 4)
        assert transform(lambda x: x.sum() * gradient.ones(3))(X[0, :0]).shape == (3, 0)
        assert transform(lambda x: gradient.ones(2))(X[0]).equal(gradient.zeros(2, 4).double())
        assert transform(lambda x: {})(X[0]) == {}


def test_random_numbers() -> None:
    def function(x: Any) -> Any:
        return x * gradient.rand(4, dtype=gradient.float64)

    with pytest.raises(ArgumentError, match="random numbers"):
        jacfwd(function)(X[0])
    with pytest.raises(ArgumentError, match="randomness"):
        jacfwd(function, randomness="other")
    gradient.rand(2)  # allowed again
    same = jacfwd(function, randomness="same")(X[0])
    assert_close(same, same.diagonal().diag())
    gradient.manual_seed(1)
    rows = gradient.rand(4, 4, dtype=gradient.float64)
    gradient.manual_seed(1)
    different = jacfwd(function, randomness="different")(X[0])
    assert_close(different, rows.diagonal().diag())


def test_gradients_of_gradients_of_samples() -> None:
    found = vmap(grad(lambda x: jacrev(written_out_of_place)(x).square().sum()))(X)
    wanted = [grad(lambda x: jacrev(written_out_of_place)(x).square().sum())(x) for x in X]
    assert_close(found, gradient.stack(wanted))
