"""`vmap`: dimensions, random numbers, writes, indices, and what it refuses. (Ops one by one are in
test_vmap_ops.py, PyTorch's results in parity/test_func_parity.py and test_func_programs.py.)"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.errors
import gradient.functional as F
from gradient.errors import ArgumentError, BackendError
from gradient.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap
from gradient.testing import assert_close

X = np.cos(np.arange(24.0)).reshape(2, 3, 4)


def looped(function: Callable[..., Any], *batches: Any) -> Any:
    return gradient.stack([function(*sample) for sample in zip(*batches, strict=True)])


def test_the_function_runs_once_for_all_samples() -> None:
    calls = []

    def function(x: Any) -> Any:
        calls.append(x.shape)
        return x * 2

    assert_close(vmap(function)(gradient.ones(5, 3)), gradient.full((5, 3), 2.0))
    assert calls == [(3,)]


def test_dimensions_of_arguments_and_results() -> None:
    x = gradient.tensor(X)
    for in_dim, out_dim in itertools.product((-3, -2, -1, 0, 1, 2), (-2, -1, 0, 1)):
        found = vmap(lambda a: a.sum(0), in_dim, out_dim)(x)
        wanted = gradient.stack([a.sum(0) for a in x.unbind(in_dim)], out_dim)
        assert_close(found, wanted)


def test_arguments_and_results_are_trees() -> None:
    x, w = gradient.tensor(X[0]), gradient.tensor(X[1])

    def function(args: Any, scale: Any) -> Any:
        return {"sum": args["x"] + args["w"], "pair": [args["x"] * scale, scale]}

    found = vmap(function, ({"x": 0, "w": 0}, None), {"sum": 0, "pair": [1, None]})(
        {"x": x, "w": w}, gradient.tensor(2.0)
    )
    assert_close(found["sum"], x + w)
    assert_close(found["pair"], [(x * 2).t(), gradient.tensor(2.0)])


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7])
def test_chunks(chunk_size: int) -> None:
    x = gradient.tensor(np.arange(15.0).reshape(3, 5))
    calls = []

    def function(a: Any) -> Any:
        calls.append(1)
        return a.cumsum(0), a.sum()

    found = vmap(function, 1, (1, 0), chunk_size=chunk_size)(x)
    assert len(calls) == -(-5 // chunk_size)
    assert_close(found, (x.cumsum(0), x.sum(0)))


def test_no_samples() -> None:
    model = gradient.nn.Linear(3, 2)
    x = gradient.zeros(0, 3)
    assert vmap(model)(x).shape == (0, 2)
    parameters = dict(model.named_parameters())
    loss = grad(lambda p, x: functional_call(model, p, x).square().sum())
    assert vmap(loss, (None, 0))(parameters, x)["weight"].shape == (0, 2, 3)
    # Those that are computed one by one have the shapes of others.
    images, weights = gradient.zeros(0, 1, 2, 4, 4), gradient.zeros(0, 3, 2, 2, 2)
    first, second = vmap(grad(lambda x, w: F.conv2d(x, w).sum(), (0, 1)))(images, weights)
    assert first.shape == images.shape and second.shape == weights.shape
    labels, sizes = gradient.tensor([[1, 2]]), gradient.tensor([2])
    log_probs = gradient.zeros(0, 5, 1, 4)
    found = vmap(grad(lambda x: F.ctc_loss(x, labels, gradient.tensor([5]), sizes)))(log_probs)
    assert found.shape == log_probs.shape


def test_a_captured_tensor_is_shared() -> None:
    x, w = gradient.tensor(X[0]), gradient.tensor(X[1, 0]).requires_grad_()
    out = vmap(lambda a: (a * w).sin().sum() + w[0])(x)
    out.sum().backward()
    given = w.detach().requires_grad_()
    ((x * given).sin().sum() + 3 * given[0]).backward()
    assert_close(w.grad, given.grad)


def test_gradients_for_a_captured_tensor_are_those_of_each_sample() -> None:
    x, w = gradient.tensor(X[0]), gradient.tensor(X[1, 0])
    found = vmap(lambda a: grad(lambda w: (a * w).sin().sum())(w))(x)
    assert_close(found, x * (x * w).cos())


def test_a_result_that_all_samples_share_is_differentiated_once() -> None:
    w = gradient.tensor(X[1, 0]).requires_grad_()
    shared, each = vmap(lambda a, w: (w * 3, a * w), (0, None), (None, 0))(gradient.ones(4, 4), w)
    (shared.sum() + each.sum()).backward()
    assert_close(w.grad, gradient.full((4,), 7.0, dtype=gradient.float64))


# Random numbers ----------------------------------------------------------------------------------


DRAWS: dict[str, Callable[[Any], Any]] = {
    "rand": lambda x: gradient.rand(50),
    "randn": lambda x: gradient.randn(50, dtype=gradient.float64),
    "randint": lambda x: gradient.randint(0, 10**6, (50,)),
    "randperm": lambda x: gradient.randperm(50),
    "rand_like": lambda x: gradient.rand_like(x),
    "bernoulli": lambda x: x.sigmoid().bernoulli(),
    "normal_": lambda x: gradient.empty_like(x).normal_(),
    "dropout": lambda x: F.dropout(gradient.ones(50)),
    "dropout of a batched tensor": lambda x: F.dropout(x * 0 + 1),
    "dropout1d": lambda x: F.dropout1d((x * 0 + 1).reshape(1, 50, 1)).flatten(),
    "bernoulli of a shared tensor": lambda x: gradient.full((50,), 0.5).bernoulli(),
    "normal": lambda x: gradient.normal(x, x.abs() + 1),
    "multinomial": lambda x: x.sigmoid().multinomial(20),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers(name: str) -> None:
    x = gradient.zeros(3, 50)
    with pytest.raises(ArgumentError, match="random numbers"):
        vmap(DRAWS[name])(x)
    same = vmap(DRAWS[name], randomness="same")(x)
    assert same[0].equal(same[1]) and same[0].equal(same[2])
    different = vmap(DRAWS[name], randomness="different")(x)
    assert not different[0].equal(different[1]) and not different[1].equal(different[2])
    gradient.manual_seed(3)
    first = vmap(DRAWS[name], randomness="different")(x)
    gradient.manual_seed(3)
    again = vmap(DRAWS[name], randomness="different")(x)
    assert first.equal(again)
    following = vmap(DRAWS[name], randomness="different")(x)  # no number is drawn twice
    assert not any(a.equal(b) for a, b in itertools.product(first, following))


def test_random_numbers_of_nested_samples() -> None:
    x = gradient.zeros(2, 3)

    def draw(a: Any) -> Any:
        return gradient.rand(20) + a

    rows = vmap(vmap(draw, randomness="different"), randomness="different")(x).reshape(6, 20)
    assert len({tuple(row.tolist()) for row in rows}) == 6
    rows = vmap(vmap(draw, randomness="same"), randomness="different")(x)
    assert rows[0, 0].equal(rows[0, 2]) and not rows[0, 0].equal(rows[1, 0])


# Indices and writes ------------------------------------------------------------------------------

KEYS: dict[str, Callable[[Any], Any]] = {
    "int": lambda i: 1,
    "slice": lambda i: (slice(None), slice(1, 3)),
    "none": lambda i: (None, Ellipsis, 2),
    "list": lambda i: [1, 0, 1],
    "lists": lambda i: ([1, 0], [0, 2]),
    "apart": lambda i: ([1, 0], slice(None), [0, 2]),
    "second": lambda i: (slice(None), [2, 0]),
    "last": lambda i: (Ellipsis, [2, 0, 1]),
    "int and list": lambda i: (0, slice(None), [3, 0]),
    "mask": lambda i: gradient.tensor([[True, False, True], [False, False, True]]),
    "batched": lambda i: i,
    "batched second": lambda i: (slice(None), i),
    "batched last": lambda i: (Ellipsis, i),
    "batched twice": lambda i: (i, i),
    "batched apart": lambda i: (i, slice(None), i),
    "batched matrix": lambda i: (slice(None), gradient.stack([i, i * 0 + 1])),
    "batched and list": lambda i: (slice(None), i, [0, 1]),
    "batched number": lambda i: (slice(None), i[0]),
    "batched numbers": lambda i: (i[0], slice(None), i[1]),
    "batched number and list apart": lambda i: (i[0], slice(None), [3, 0]),
    "batched number, None and list": lambda i: (i[0], None, [1, 0, 2]),
    "batched number and batched apart": lambda i: (i[0], slice(None), i),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("batched", [True, False])
def test_indices(key: str, batched: bool) -> None:
    at = gradient.tensor([[0, 1], [1, 1], [1, 0]])
    x = gradient.tensor(np.arange(72.0).reshape(3, 2, 3, 4))
    given = x if batched else x[0]

    def read(a: Any, i: Any) -> Any:
        return a[KEYS[key](i)]

    found = vmap(read, (0 if batched else None, 0))(given, at)
    wanted = looped(read, x if batched else [given] * 3, at)
    assert_close(found, wanted)
    weights = gradient.tensor(np.cos(np.arange(wanted.numel())).reshape(wanted.shape))
    leaf, other = given.clone().requires_grad_(), given.clone().requires_grad_()
    (vmap(read, (0 if batched else None, 0))(leaf, at) * weights).sum().backward()
    (looped(read, other if batched else [other] * 3, at) * weights).sum().backward()
    assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["number", "batched", "shared", "row"])
def test_writes_at_indices(key: str, value: str) -> None:
    at = gradient.tensor([[0, 1], [1, 1], [1, 0]])
    if key == "batched matrix":  # positions that repeat: which value stays is not said
        at = gradient.tensor([[0, 2], [2, 0], [0, 2]])
    x = gradient.tensor(np.arange(72.0).reshape(3, 2, 3, 4))
    size = x[0][KEYS[key](at[0])].shape
    values = gradient.tensor(-1 - np.arange(3.0 * np.prod(size)).reshape(3, *size))
    if key in ("batched", "batched twice", "batched apart", "batched last", "batched second",
               "batched and list", "list", "batched number and batched apart"):  # fmt: skip
        values = values[:, :1] * 0 + values.mean() if values.ndim > 1 else values
    rows = gradient.tensor(np.array([7.0, 8.0, 9.0]))

    def write(a: Any, i: Any, v: Any, r: Any) -> Any:
        out = a.clone()
        out[KEYS[key](i)] = {"number": 5.0, "batched": v, "shared": values[0] * 2, "row": r}[value]
        return out * 2

    assert_close(vmap(write)(x, at, values, rows), looped(write, x, at, values, rows))


def test_writes_to_new_tensors() -> None:
    x = gradient.tensor(X[0])

    def diagonal(a: Any) -> Any:
        out = a.new_zeros(a.shape[0], a.shape[0])
        out.diagonal().copy_(a)
        return out

    assert_close(vmap(diagonal)(x), looped(diagonal, x))

    def scan(a: Any) -> Any:
        out, total = gradient.zeros_like(a), a.new_zeros(())
        for i in range(a.shape[0]):
            total += a[i]
            out[i] = total
        return out

    leaf = x.clone().requires_grad_()
    found = vmap(scan)(leaf)
    assert_close(found.detach(), x.cumsum(1))
    found.square().sum().backward()
    other = x.clone().requires_grad_()
    other.cumsum(1).square().sum().backward()
    assert_close(leaf.grad, other.grad)


def test_writes_change_the_batch() -> None:
    x = gradient.ones(3, 2)
    vmap(lambda a: a.add_(1))(x)
    assert_close(x, gradient.full((3, 2), 2.0))


# What is refused ---------------------------------------------------------------------------------

SHARED = gradient.zeros(4)

REFUSED: dict[str, Callable[[Any], Any]] = {
    "item": lambda x: x.sum().item() * x,
    "if": lambda x: x if x.sum() > 0 else -x,
    "numpy": lambda x: gradient.tensor(x.numpy()),
    "tolist": lambda x: gradient.tensor(x.tolist()),
    "float": lambda x: x * float(x[0]),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "write to a captured tensor": lambda x: SHARED.add_(x),
    "write to a new tensor": lambda x: gradient.zeros(4).copy_(x),
    "write to an item": lambda x: SHARED.clone().__setitem__(0, x[0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_values_of_a_sample_is_refused(name: str) -> None:
    before = SHARED.clone()
    with pytest.raises(BackendError, match="vmap: "):
        vmap(REFUSED[name])(gradient.tensor(X[0]).float())
    assert SHARED.equal(before)


def test_values_that_all_samples_share_can_be_read() -> None:
    found = vmap(lambda x, n: x * 2 if n.item() > 2 else x, (0, None))(
        gradient.ones(3), gradient.tensor(3)
    )
    assert_close(found, gradient.full((3,), 2.0))


def test_a_batched_tensor_is_printed_by_its_shape() -> None:
    texts = []
    vmap(lambda x: texts.append(repr(x)) or x)(gradient.ones(3, 2))
    assert texts == ["tensor(..., size=(2,))"]


def test_dimensions_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ArgumentError, match="out_dims from -2 to 1"):
        vmap(lambda x: x, out_dims=2)(gradient.ones(3, 2))
    fits = "nested like the results, got (0, 0, 0) for a tuple of 2"
    with pytest.raises(ArgumentError, match=f"out_dims of ints or None, {re.escape(fits)}"):
        vmap(lambda x: (x, x), out_dims=(0, 0, 0))(gradient.ones(3, 2))
    for dims, got in (((0, 1), "(0, 1) for a tuple of 1"), ("a", "'a' for a Tensor")):
        with pytest.raises(ArgumentError, match=f"nested like the arguments, got {re.escape(got)}"):
            vmap(lambda x: x, in_dims=dims)(gradient.ones(3, 2))
    mixed = ({"y": None, "x": 0},)  # in another order than the argument
    found = vmap(lambda d: d["x"] * d["y"], mixed)({"x": gradient.ones(3), "y": gradient.ones(2)})
    assert found.shape == (3, 2)
    with pytest.raises(ArgumentError, match="got {'y': 0} for a dict of 1"):
        vmap(lambda d: d["x"], in_dims=({"y": 0},))({"x": gradient.ones(3, 2)})


HOST: dict[str, Callable[[Any], Any]] = {
    "slogdet": lambda x: gradient.linalg.slogdet(x)[0] + gradient.linalg.slogdet(x)[1],
    "matrix_exp": lambda x: gradient.linalg.matrix_exp(x),
    "lu_factor": lambda x: gradient.linalg.lu_factor(x).LU,
    "lu_solve": lambda x: gradient.linalg.lu_solve(*gradient.linalg.lu_factor(x), x),
    "svd": lambda x: gradient.linalg.svd(x[:, :2])[1],
    "full svd": lambda x: gradient.linalg.svd(x[:, :2])[0].abs(),
    "cholesky_ex": lambda x: gradient.linalg.cholesky_ex(x @ x.mT + 1).info,
    "frexp": lambda x: x.frexp().mantissa if hasattr(x.frexp(), "mantissa") else x.frexp()[0],
    "gcd": lambda x: gradient.gcd((x * 9).long(), gradient.tensor([6, 4, 9])),
    "shift": lambda x: 1 << (x * 4).abs().long(),
    "one_hot": lambda x: F.one_hot((x * 4).abs().long(), 5),
    "gaussian_nll_loss": lambda x: F.gaussian_nll_loss(x, x * 2, x.abs() + 1),
}


@pytest.mark.parametrize("name", HOST)
def test_what_the_host_computes_or_checks(name: str) -> None:
    x = gradient.tensor(np.cos(np.arange(36.0)).reshape(4, 3, 3) + 3 * np.eye(3))
    if name == "one_hot":
        x = x / 4
    assert_close(vmap(HOST[name])(x), looped(HOST[name], x), rtol=1e-9, atol=1e-9)


def test_what_the_host_checks_is_still_refused() -> None:
    with pytest.raises(ArgumentError, match="classes from 0 to 1"):
        vmap(lambda x: F.one_hot(x, 2))(gradient.tensor([[0, 1], [1, 2]]))
    with pytest.raises(IndexError):
        vmap(lambda i: SHARED[i])(gradient.tensor([[0], [4]]))
    with pytest.raises(gradient.errors.LinAlgError):
        vmap(lambda x: gradient.linalg.cholesky(x))(-gradient.eye(2).expand(2, 2, 2))


def test_large_arrays_are_computed_in_one_pass_too() -> None:
    x, b = gradient.randn(4, 300, 100), gradient.randn(100)

    def function(x: Any) -> Any:
        return ((x * b + x) / (x * x + 1)).sum()

    for _ in range(3):  # the second time by a compiled kernel
        assert_close(vmap(grad(function))(x), looped(grad(function), x))
        assert_close(vmap(lambda x: x * b - x)(x), x * b - x)


def test_layers_functions_and_checkpoints() -> None:
    from gradient.utils.checkpoint import checkpoint

    class Square(gradient.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2 * ctx.saved_tensors[0] * g

    lstm = gradient.nn.LSTM(4, 3).double()
    attention = gradient.nn.MultiheadAttention(4, 2).double()
    w = gradient.tensor(X[1, :, :3])
    for function in (
        lambda x: lstm(x)[0].sum(),
        lambda x: attention(x, x, x)[0].square().sum(),
        lambda x: Square.apply(x).sum(),
        lambda x: checkpoint(lambda y: (y[:, :3] @ w).tanh(), x, use_reentrant=False).sum(),
    ):
        x = gradient.tensor(X)
        assert_close(vmap(function)(x), looped(function, x))
        assert_close(vmap(grad(function))(x), looped(grad(function), x))


def test_a_compiled_function_is_replayed() -> None:
    model = gradient.nn.Linear(4, 3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    compute = vmap(grad(lambda p, x: functional_call(model, p, x).tanh().sum()), (None, 0))
    compiled = gradient.compile(lambda p, x: compute(p, x)["weight"], fullgraph=True)
    for i in range(4):
        x = gradient.randn(5, 4) + i
        assert_close(compiled(parameters, x), compute(parameters, x)["weight"])


@pytest.mark.parametrize("dtype", [gradient.bfloat16, gradient.float16])
def test_16_bit_floats_are_rounded_once(dtype: Any) -> None:
    x, w = gradient.randn(4, 3, 8).to(dtype), gradient.randn(4, 5, 8).to(dtype)
    b = gradient.randn(4, 5).to(dtype)
    assert vmap(F.linear)(x, w, b).equal(looped(F.linear, x, w, b))
    scale, shift = gradient.randn(4, 8).to(dtype), gradient.randn(4, 8).to(dtype)

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        return F.layer_norm(x, (8,), scale, shift)

    assert_close(vmap(norm)(x, scale, shift), looped(norm, x, scale, shift))


# Derivatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 4, 5, 100])
def test_jacobians_in_chunks(chunk_size: int | None) -> None:
    x, w = gradient.tensor(X[0, 0]), gradient.tensor(X[1])

    def function(x: Any) -> Any:
        return {"a": (w @ x).sin(), "b": x.prod()}

    found = jacrev(function, chunk_size=chunk_size)(x)
    wanted = jacfwd(function)(x)
    assert_close(found, wanted)
    second = jacrev(lambda x: jacrev(function, chunk_size=chunk_size)(x)["a"])(x)
    assert_close(second, jacfwd(jacfwd(lambda x: function(x)["a"]))(x))


def test_jacobians_of_each_sample() -> None:
    x, w = gradient.tensor(X[0]), gradient.tensor(X[1, :, :3])

    def function(x: Any) -> Any:
        return (w @ x[:3]).tanh() * x[3]

    for transform in (jacrev, jacfwd):
        assert_close(vmap(transform(function))(x), looped(transform(function), x))
    found = vmap(hessian(lambda x: function(x).sum()))(x)
    assert_close(found, looped(hessian(lambda x: function(x).sum()), x))


def test_jacobians_stay_in_a_graph_of_the_callers() -> None:
    for transform in (jacrev, jacfwd):
        w = gradient.tensor(X[1]).requires_grad_()
        x = gradient.tensor(X[0, 0]).requires_grad_()
        found = transform(lambda x, w=w: (w @ x).sin())(x)
        found.square().sum().backward()
        v, y = w.detach().requires_grad_(), x.detach().requires_grad_()
        ((v @ y).cos().unsqueeze(1) * v).square().sum().backward()
        assert_close([w.grad, x.grad], [v.grad, y.grad])


def test_models_that_cannot_be_called_as_one_are_refused() -> None:
    linear = gradient.nn.Linear(2, 3)
    with pytest.raises(ArgumentError, match="modules of one class, got Linear and ReLU"):
        stack_module_state([linear, gradient.nn.ReLU()])
    with pytest.raises(ArgumentError, match="modules of one class, got none"):
        stack_module_state([])
    with pytest.raises(ArgumentError, match=r"modules in one mode, got .*; call train\(\) or eval"):
        stack_module_state([linear, gradient.nn.Linear(2, 3).eval()])


def test_an_ensemble() -> None:
    models = [gradient.nn.Sequential(gradient.nn.Conv2d(2, 3, 2), gradient.nn.BatchNorm2d(3),
                                     gradient.nn.ReLU(), gradient.nn.Flatten(),
                                     gradient.nn.Linear(27, 2)) for _ in range(3)]  # fmt: skip
    for model in models:
        model.eval()
    parameters, buffers = stack_module_state(models)
    x = gradient.randn(5, 2, 4, 4)

    def call(parameters: Any, buffers: Any, x: Any) -> Any:
        return functional_call(models[0], (parameters, buffers), x)

    found = vmap(call, (0, 0, None))(parameters, buffers, x)
    assert_close(found, gradient.stack([m(x) for m in models]), rtol=1e-4)
    found.square().sum().backward()
    for i, model in enumerate(models):
        model(x).square().sum().backward()
        for name, p in model.named_parameters():
            assert_close(parameters[name].grad[i], p.grad, rtol=1e-3, atol=1e-5)
