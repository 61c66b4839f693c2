"""Operators on large arrays by generated kernels: NumPy's bits, and everything else NumPy's."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.base import LARGE
from gradient.backends.numpy import kernels, one_pass, threads
from gradient.ops import comparison, elementwise

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-45, 3e38, 1e-30, 0.1]
FUNCTIONS = [
    *(elementwise.add, elementwise.sub, elementwise.mul, elementwise.div),
    *(comparison.eq, comparison.ne, comparison.lt, comparison.le, comparison.gt, comparison.ge),
]
SHAPES = [
    ((4, 70), (4, 70)),
    ((280,), (280,)),
    ((4, 70), (70,)),
    ((70,), (4, 70)),
    ((4, 70), (4, 1)),
    ((4, 70), ()),
    ((4, 70), (1, 1, 1)),
    ((2, 3, 4, 40), (3, 1, 40)),  # rows along three axes
    ((2, 5, 3, 40), (5, 1, 1)),
    ((0, 3), (0, 3)),
]

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there are no kernels")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels are compiled at once."""
    monkeypatch.setattr(one_pass, "PATIENCE", 0)


def drawn(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Normal numbers and special ones."""
    random = np.random.default_rng(seed)
    x = np.asarray(random.standard_normal(shape)).astype(dtype)
    special = np.array(SPECIAL).astype(dtype)
    return np.where(random.random(shape) < 0.4, random.choice(special, shape), x)


def in_one_pass(function: Callable[..., Any], *operands: Any) -> np.ndarray:
    return backends.get("cpu").in_one_pass(function, *operands)


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected) and found.dtype == expected.dtype
    assert found.shape == expected.shape and found.flags.c_contiguous
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(found), nan)
    assert found[~nan].tobytes() == expected[~nan].tobytes()


@pytest.mark.parametrize("call", FUNCTIONS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operators_give_numpys_bits(call: Any, dtype: str, started: list[Any]) -> None:
    function = call.op.function
    for own, other in SHAPES:
        a, b = drawn(own, dtype, 0), drawn(other, dtype, 1)
        assert_same(in_one_pass(function, a, b), function(None, a, b))
    x = drawn((4, 70), dtype, 2)
    for number in (2.5, -0.0, 3, np.inf, np.nan, 16777217):
        assert_same(in_one_pass(function, x, number), function(None, x, number))
        assert_same(in_one_pass(function, number, x), function(None, number, x))
    assert len(started) == 12 + len(SHAPES) - 1  # not an empty one


@pytest.mark.parametrize("call", FUNCTIONS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_operators_of_16_bits_give_numpys_bits(call: Any, half: str, started: list[Any]) -> None:
    dtype: Any = getattr(gradient, half).numpy
    if not kernels.computes(dtype):
        pytest.skip("no instruction converts them")
    function = call.op.function
    for own, other in SHAPES:
        with np.errstate(all="ignore"):
            a, b = drawn(own, dtype, 0), drawn(other, dtype, 1)
            found, expected = in_one_pass(function, a, b), function(None, a, b)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert_same(found.astype(np.float32), expected.astype(np.float32))
    assert len(started) == len(SHAPES) - 1
    x = np.ones((4, 70), dtype)  # beside numbers, NumPy computes
    assert in_one_pass(function, x, 2.5).dtype == function(None, x, 2.5).dtype
    assert len(started) == len(SHAPES) - 1


@pytest.mark.parametrize("name", ["mul", "div", "exp", "log", "sqrt", "rsqrt", "tanh"])
def test_rules_give_numpys_bits(name: str, started: list[Any]) -> None:
    from gradient.autograd.op import _behind_backend, registry

    made = registry[name]
    assert made.has_rules_of_operators
    for rule, names in zip(made.rules, made.needs, strict=True):
        values = [drawn((3, 50), "float32", i) for i in range(1 + len(names))]
        assert_same(in_one_pass(_behind_backend(rule), *values), rule(*values))
    assert started


@pytest.mark.parametrize("name", ["mul", "div", "exp", "log", "sqrt", "rsqrt", "tanh"])
def test_gradients_of_large_tensors_are_kernels(name: str, started: list[Any]) -> None:
    from gradient.autograd.op import registry

    inputs = [gradient.rand(LARGE + 1) + 0.5 for _ in registry[name].inputs]
    y = getattr(gradient, registry[name].public_name)(*[x.requires_grad_() for x in inputs])
    forward = len(started)
    y.backward(gradient.ones(LARGE + 1))
    assert len(started) == forward + len(inputs)


def assert_numpys_sum(a: Any, b: Any) -> None:
    with np.errstate(all="ignore"):
        found, expected = in_one_pass(lambda be, a, b: a + b, a, b), a + b
    assert found.dtype == expected.dtype and found.strides == expected.strides
    assert np.array_equal(found, expected, equal_nan=True)


def test_operands_of_other_strides(started: list[Any]) -> None:
    x = np.random.default_rng(0).standard_normal((6, 80), np.float32)
    images = np.random.default_rng(1).standard_normal((6, 40, 9, 16), np.float32)
    fixed = x.copy()
    fixed.flags.writeable = False
    channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    calls = [
        (x, fixed),
        (x, x[:, :1]),
        (x[:, :, None], x[0]),
        (images[:, :20], images[:, 20:]),
        (images, channels_last),  # which is copied first
        (np.broadcast_to(images[:, :, :1], images.shape), images),
        (np.broadcast_to(images[:, :, :1], images.shape), images[:1]),
        (np.broadcast_to(images[..., :1], images.shape), images[:, :, :1]),
        (channels_last, channels_last),
        (x.T, x.T),
        (x.T, x.T[:1]),
        (x[:, ::2], x[:, ::2]),  # copied by NumPy
        (x, x[:, ::-1]),
    ]
    for a, b in calls:
        assert_numpys_sum(a, b)
        assert_numpys_sum(b, a)
    assert len(started) == 2 * len(calls) + 2


def test_what_kernels_do_not_take_is_numpys(started: list[Any]) -> None:
    x = np.random.default_rng(0).standard_normal((6, 80), np.float32)
    for a, b in [
        (x, x.astype(np.float64)),
        (x.astype(np.int64), x.astype(np.int64)),
        (x > 0, x > 0),
        (x.astype(np.complex64), x.astype(np.complex64)),
        (np.float32(2), x),
        (x.reshape(2, 3, 2, 4, 2, 5), x[0, :60].reshape(3, 1, 4, 1, 5)),  # five axes
    ]:
        assert_numpys_sum(a, b)
    with pytest.raises(ValueError, match="broadcast"):
        in_one_pass(elementwise.add.op.function, x, x[:, :3].copy())
    assert in_one_pass(lambda be, g: g, x) is x
    assert np.array_equal(in_one_pass(lambda be, a: a.sum(), x), x.sum(), equal_nan=True)
    assert not started


def test_numpy_computes_until_a_kernel_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "PATIENCE", 2)
    monkeypatch.setattr(threads, "parallel_for", None)
    x = drawn((5, 60), "float64", 0)
    function: Any = lambda be, a: a * 3.25 - 7.5  # noqa: E731 (one of its own)
    for _ in range(2):
        assert_same(in_one_pass(function, x), x * 3.25 - 7.5)
    with pytest.raises(TypeError):
        in_one_pass(function, x)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_large_tensors_with_gradients(count: int) -> None:
    before = gradient.get_num_threads()
    gradient.set_num_threads(count)
    try:
        x, y, g = (drawn((LARGE // 64 + 3, 64), "float32", i) for i in range(3))
        a, b = (gradient.tensor(each, requires_grad=True) for each in (x, y))
        (a / b).backward(gradient.tensor(g))
        with np.errstate(all="ignore"):
            assert_same(a.grad.numpy(), g / y)
            assert_same(b.grad.numpy(), -(g * (x / y)) / y)
            assert_same((a * b).detach().numpy(), x * y)
            assert_same((a > b).numpy(), x > y)
            assert_same((2 - a).detach().numpy(), 2 - x)
    finally:
        gradient.set_num_threads(before)


def test_results_may_be_operands_again() -> None:
    x = gradient.randn(LARGE)
    expected = x.numpy() * 2
    x += x
    assert_same(x.numpy(), expected)
    y = gradient.ones(LARGE)
    gradient.mul(y, 3.0, out=y)
    assert np.array_equal(y.numpy(), np.full(LARGE, 3, np.float32))


def test_a_recording_notes_the_operators() -> None:
    x = gradient.randn(LARGE)

    def step(x: Any) -> Any:
        return operator.mul(x, x) + x * 2.0

    compiled = gradient.compile(step)
    for _ in range(3):
        assert_same(compiled(x).numpy(), step(x).numpy())


@pytest.mark.parametrize("call", FUNCTIONS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_beside_16_bits_have_the_bits_of_small_arrays(call: Any, half: str) -> None:
    x = gradient.tensor(drawn((3, LARGE // 2), "float32", 0)).to(getattr(gradient, half))
    rows = [x[i] for i in range(3)]
    for number in (2.5, -0.0, 3, 0.1, 1e6, np.inf, np.nan, gradient.tensor(0.3)):
        for way in (call, lambda a, b: call(b, a)):
            found = way(x, number)
            expected = gradient.stack([way(row, number) for row in rows])
            assert found.dtype == expected.dtype
            assert_same(found.float().numpy(), expected.float().numpy())
    turned = x.t()
    assert_same((turned * 0.1).float().t().numpy(), (x * 0.1).float().numpy())
    x.requires_grad_()
    if call in FUNCTIONS[:4]:
        call(x, 2.5).float().sum().backward()
        assert x.grad.dtype == x.dtype
