"""The programs of the tutorials of `torch.func`, in both packages, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.autograd.trees import leaves_of

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # PyTorch's, without a rule
]
torch = pytest.importorskip("torch")


def draw(p: Any, *shape: int, seed: int = 0) -> Any:
    return p.tensor(np.random.default_rng(seed + sum(shape)).standard_normal(shape))


def with_weights(p: Any, model: Any, seed: int = 0) -> Any:
    """The model in float64, with weights that do not depend on the package."""
    model = model.double()
    with p.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(0.3 * draw(p, *parameter.shape, seed=seed + i))
    return model


def mlp(p: Any, *sizes: int, seed: int = 0) -> Any:
    layers: list[Any] = []
    for n, m in zip(sizes, sizes[1:], strict=False):
        layers += [p.nn.Linear(n, m), p.nn.Tanh()]
    return with_weights(p, p.nn.Sequential(*layers[:-1]), seed)


def cnn(p: Any) -> Any:
    nn = p.nn
    return with_weights(
        p,
        nn.Sequential(
            *(nn.Conv2d(1, 4, 3, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(54, 16), nn.ReLU()),
            nn.Linear(16, 10),
        ),
    )


def transformer(p: Any) -> Any:
    layer = p.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    model = p.nn.Sequential(p.nn.Embedding(10, 8), layer, p.nn.Linear(8, 10))
    return with_weights(p, model)


def of_samples(p: Any, model: Any, x: Any, target: Any) -> Any:
    """Gradients and losses of each sample."""
    parameters = {name: v.detach() for name, v in model.named_parameters()}
    buffers = {name: v.detach() for name, v in model.named_buffers()}

    def loss(parameters: Any, buffers: Any, sample: Any, label: Any) -> Any:
        out = p.func.functional_call(model, (parameters, buffers), (sample.unsqueeze(0),))
        return p.nn.functional.cross_entropy(out.reshape(-1, 10), label.reshape(-1))

    compute = p.func.vmap(p.func.grad_and_value(loss), in_dims=(None, None, 0, 0))
    return compute(parameters, buffers, x, target)


def per_sample_of_cnn(p: Any) -> Any:
    return of_samples(p, cnn(p), draw(p, 5, 1, 14, 14), p.arange(5))


def per_sample_of_mlp(p: Any) -> Any:
    return of_samples(p, mlp(p, 12, 8, 10), draw(p, 7, 12), p.arange(7))


def per_sample_of_transformer(p: Any) -> Any:
    tokens = (p.arange(15).reshape(3, 5) * 7) % 10
    return of_samples(p, transformer(p), tokens, (tokens + 1) % 10)


def predict(p: Any, weight: Any, bias: Any, x: Any) -> Any:
    return p.nn.functional.linear(x, weight, bias).tanh()


def jacobian_by_vjps(p: Any) -> Any:
    """`vmap` of a vjp over unit vectors, and of a jvp."""
    weight, bias, x = draw(p, 6, 6), draw(p, 6), draw(p, 6, seed=3)
    _, product = p.func.vjp(lambda x: predict(p, weight, bias, x), x)
    (rows,) = p.func.vmap(product)(p.eye(6, dtype=p.float64))

    def column(v: Any) -> Any:
        return p.func.jvp(lambda x: predict(p, weight, bias, x), (x,), (v,))[1]

    return rows, p.func.vmap(column, out_dims=1)(p.eye(6, dtype=p.float64))


def jacobians(p: Any) -> Any:
    weight, bias, x = draw(p, 6, 6), draw(p, 6), draw(p, 4, 6)

    def f(weight: Any, bias: Any, x: Any) -> Any:
        return predict(p, weight, bias, x)

    return (
        p.func.jacrev(f, argnums=2)(weight, bias, x[0]),
        p.func.jacfwd(f, argnums=(0, 1))(weight, bias, x[0]),
        p.func.jacrev(f, argnums=(0, 1))(weight, bias, x[0]),
        p.func.vmap(p.func.jacrev(f, argnums=2), in_dims=(None, None, 0))(weight, bias, x),
    )


def hessians(p: Any) -> Any:
    weight, bias, x = draw(p, 5, 5), draw(p, 5), draw(p, 3, 5)

    def f(x: Any) -> Any:
        return predict(p, weight, bias, x)

    def trace(x: Any) -> Any:
        return p.func.hessian(lambda x: f(x).sum())(x).diagonal().sum()

    forward = p.func.jacfwd(p.func.jacfwd(f))(x[0])
    return p.func.hessian(f)(x[0]), forward, p.func.vmap(trace)(x)


def ensembles(p: Any) -> Any:
    models = [mlp(p, 6, 5, 3, seed=10 * i) for i in range(4)]
    parameters, buffers = p.func.stack_module_state(models)

    def call(parameters: Any, buffers: Any, x: Any) -> Any:
        return p.func.functional_call(models[0], (parameters, buffers), (x,))

    one, each = draw(p, 8, 6), draw(p, 4, 8, 6)
    shared = p.func.vmap(call, in_dims=(0, 0, None))(parameters, buffers, one)
    own = p.vmap(call)(parameters, buffers, each)
    (shared.square().sum() + own.sum()).backward()
    return shared.detach(), own.detach(), [v.grad for v in parameters.values()]


def maml(p: Any) -> Any:
    """Two inner steps on each task, and the gradient of the outer loss through them."""
    model = mlp(p, 1, 8, 1)
    parameters = {name: v.detach() for name, v in model.named_parameters()}
    x, y = draw(p, 3, 10, 1), draw(p, 3, 10, 1, seed=5)

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        out = p.func.functional_call(model, parameters, (x,))
        return p.nn.functional.mse_loss(out, y)

    def task(parameters: Any, x: Any, y: Any) -> Any:
        for _ in range(2):
            gradients = p.func.grad(loss)(parameters, x[:5], y[:5])
            parameters = {k: parameters[k] - 0.1 * g for k, g in gradients.items()}
        return loss(parameters, x[5:], y[5:])

    def outer(parameters: Any) -> Any:
        return p.func.vmap(task, in_dims=(None, 0, 0))(parameters, x, y).mean()

    return p.func.grad_and_value(outer)(parameters)


def kernel_of_tangents(p: Any) -> Any:
    """The neural tangent kernel, by contractions of Jacobians."""
    model = mlp(p, 4, 6, 2)
    parameters = {name: v.detach() for name, v in model.named_parameters()}

    def single(parameters: Any, x: Any) -> Any:
        return p.func.functional_call(model, parameters, (x.unsqueeze(0),)).squeeze(0)

    found = []
    for x in (draw(p, 3, 4), draw(p, 5, 4)):
        made = p.func.vmap(p.func.jacrev(single), (None, 0))(parameters, x)
        found.append([j.flatten(2) for j in made.values()])
    pairs = zip(*found, strict=True)
    return sum(p.einsum("Naf,Mbf->NMab", a, b) for a, b in pairs)


def hessian_vector_products(p: Any) -> Any:
    a = draw(p, 6, 6)

    def f(x: Any) -> Any:
        return ((a @ x).sin() ** 2).sum()

    def product(x: Any, v: Any) -> Any:
        return p.func.jvp(p.func.grad(f), (x,), (v,))[1]

    return p.func.vmap(product)(draw(p, 3, 6), draw(p, 3, 6, seed=4))


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    made.__name__: made
    for made in (
        *(per_sample_of_cnn, per_sample_of_mlp, per_sample_of_transformer, jacobian_by_vjps),
        *(jacobians, hessians, ensembles, maml, kernel_of_tangents, hessian_vector_products),
    )
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    mine, others = (leaves_of(PROGRAMS[name](p)) for p in (gradient, torch))
    assert len(mine) == len(others)
    for one, other in zip(mine, others, strict=True):
        assert tuple(one.shape) == tuple(other.shape)
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-8, atol=1e-11)


CONSTANT = [4]

REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "item": lambda p, x: x.sum().item() * x,
    "if": lambda p, x: x if x.sum() > 0 else -x,
    "mask": lambda p, x: x[x > 0],
    "nonzero": lambda p, x: x.nonzero(),
    "in place on what is shared": lambda p, x: p.zeros(*CONSTANT).double().add_(x),
    "in place on a new tensor": lambda p, x: p.zeros(*CONSTANT).double().copy_(x),
    "random numbers": lambda p, x: x + p.rand(4),
    "dropout": lambda p, x: p.nn.functional.dropout(x),
    "a number": lambda p, x: 3.0,
    "a string": lambda p, x: (x, "a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    for p in (torch, gradient):
        with pytest.raises((RuntimeError, ValueError)):
            p.func.vmap(lambda x, p=p: REFUSED[name](p, x))(draw(p, 3, 4))


DIMS: dict[str, Callable[[Any], Any]] = {
    "no batch": lambda p: p.vmap(lambda x: x, None)(draw(p, 2)),
    "beyond": lambda p: p.vmap(lambda x: x, 2)(draw(p, 2, 3)),
    "below": lambda p: p.vmap(lambda x: x, -3)(draw(p, 2, 3)),
    "too many": lambda p: p.vmap(lambda x: x, (0, 0))(draw(p, 2, 3)),
    "sizes": lambda p: p.vmap(lambda x, y: x, (0, 1))(draw(p, 2, 3), draw(p, 2, 3)),
    "another tree": lambda p: p.vmap(lambda x: x[0], ([0, 0, 0],))([draw(p, 2), draw(p, 2)]),
    "out beyond": lambda p: p.vmap(lambda x: x, out_dims=3)(draw(p, 2, 3)),
    "out too many": lambda p: p.vmap(lambda x: (x, x), out_dims=(0, 0, 0))(draw(p, 2, 3)),
    "out None": lambda p: p.vmap(lambda x: x, out_dims=None)(draw(p, 2, 3)),
    "not a tensor": lambda p: p.vmap(lambda x: x, 0)(3.0),
    "randomness": lambda p: p.vmap(lambda x: x, randomness="some")(draw(p, 2, 3)),
    "no arguments": lambda p: p.vmap(lambda: draw(p, 2))(),
}


@pytest.mark.parametrize("name", DIMS)
def test_dimensions_that_do_not_fit(name: str) -> None:
    for p in (torch, gradient):
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            DIMS[name](p)
