"""Small integers and indices as tasks: which calls become some, and with the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import Tensor, tensor
from gradient.backends.numpy import kernels, threads
from gradient.plan.step import RecordedStep, Replay

pytestmark = pytest.mark.cpu_only


@pytest.fixture(autouse=True)
def with_kernels() -> None:
    pytest.importorskip("numba")


def replay_of(function: Callable[[Tensor], Tensor], given: Tensor) -> Any:
    with gradient.no_grad():
        return Replay(RecordedStep(lambda x: (function(x),), [given], []), [])


def routed(x: Tensor) -> Tensor:
    """As `SparseMoe.mix`, without its products."""
    scores, experts = x.topk(3, dim=-1)
    flat = experts.flatten()
    order = flat.argsort(stable=True)
    counts = gradient.zeros(8, dtype=gradient.int64).scatter_add(0, flat, gradient.ones_like(flat))
    y = x[order // 3][order.argsort()].view(*experts.shape, 8)
    weights = scores / scores.sum(-1, keepdim=True)
    return (y * weights.unsqueeze(-1)).sum(1) + counts


SPECIAL = [[float("nan"), 1.0, float("inf"), 2.0, 2.0, -0.0, 0.0, 1.0]]


@pytest.mark.parametrize("rows", [1, 5])
def test_routing_is_tasks_with_the_same_bits(rows: int) -> None:
    replay = replay_of(routed, gradient.randn(rows, 8))
    others = [f for f, _ in replay.executor.program if f is not threads.run_tasks]
    assert not others
    for x in (gradient.randn(rows, 8), gradient.zeros(rows, 8), tensor(SPECIAL * rows)):
        with gradient.no_grad():
            expected = routed(x)
        assert replay(x.array)[0].numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64])
@pytest.mark.parametrize(
    "shape", [(1, 8), (7, 5), (3, 4, 6), (2, 8, 2), (4, 7, 1), (6, 1), (2, 16, 3)]
)
def test_sums_of_few_numbers_are_in_numpys_order(
    shape: tuple[int, ...], dtype: gradient.dtype
) -> None:
    for axis in range(len(shape)):
        replay = replay_of(lambda x, axis=axis: (x + 0).sum(axis), gradient.randn(shape).to(dtype))
        one_by_one = shape[axis] < 8 or math.prod(shape[axis + 1 :]) > 1
        assert ("the kernel sums" in str(replay.executor)) == one_by_one
        for _ in range(20):
            x = gradient.randn(shape, dtype=dtype)
            assert replay(x.array)[0].numpy().tobytes() == x.sum(axis).numpy().tobytes()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda index: gradient.arange(8)[index + 0], "index 8 is out of bounds"),
        (lambda index: gradient.arange(8).gather(0, index + 0), "index 8 is out of bounds"),
    ],
)
def test_indices_that_are_given_are_still_checked(function: Any, message: str) -> None:
    replay = replay_of(function, tensor([1, 2]))
    assert replay(np.array([7, 0]))[0].tolist() == [7, 0]
    with pytest.raises(IndexError, match=message):
        replay(np.array([8, 0]))


def test_an_index_that_is_written_has_no_bound() -> None:
    def step(given: Tensor) -> Tensor:
        index = given.topk(2)[1]
        index.copy_(given[:2])
        return gradient.arange(8).unsqueeze(1)[index]

    replay = replay_of(step, tensor([1, 2, 3]))
    assert replay(np.array([7, 0, 0]))[0].tolist() == [[7], [0]]
    with pytest.raises(IndexError):
        replay(np.array([7, 8, 0]))


def test_kernels_of_small_arrays_take_rows() -> None:
    family = kernels.load("small_arrays")
    x = np.array([[3, 1, 3, 2], [0, 0, 0, 0]])
    out = np.empty_like(x)
    family.sorting(0, 2, x, out)
    np.testing.assert_array_equal(out, np.argsort(x, kind="stable"))


NUMBERS = [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 3e38]
ARITHMETIC: list[Callable[[Tensor, Tensor], Tensor]] = [
    *(lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b),
    *(gradient.maximum, gradient.minimum),
    *(lambda a, b: 2 - a, lambda a, b: 1 / b),
]


@pytest.mark.parametrize("function", ARITHMETIC)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_single_numbers_are_computed_in_tasks(function: Any) -> None:
    x = gradient.zeros(2)
    replay = replay_of(lambda x: function(x[0], x[1]), x)
    assert "numpy." not in str(replay.executor)
    for a in NUMBERS:
        for b in NUMBERS:
            given = tensor([a, b])
            with gradient.no_grad():
                expected = function(given[0], given[1]).numpy()
            np.testing.assert_array_equal(replay(given.array)[0].numpy(), expected)


def test_counts_and_means_are_computed_in_tasks() -> None:
    def mean(x: Tensor) -> Tensor:
        found = (x != -100).sum()
        return (found.to(gradient.float32) / 3).expand(5)

    replay = replay_of(mean, tensor([1, -100, 3]))
    assert "numpy." not in str(replay.executor)
    for given in ([1, 2, 3], [-100, -100, -100], [-100, 2**62, -(2**62)]):
        expected = mean(tensor(given)).tolist()
        assert replay(np.array(given))[0].tolist() == expected


@pytest.mark.parametrize("shape", [(65,), (300, 7), (2, 129, 3)])
def test_sums_of_more_numbers_are_kernels(shape: tuple[int, ...]) -> None:
    axis = max(range(len(shape)), key=shape.__getitem__)
    replay = replay_of(lambda x: (x + 0).sum(axis), gradient.randn(shape))
    assert "numpy.add.reduce" not in str(replay.executor)
    x = gradient.randn(shape)
    np.testing.assert_allclose(replay(x.array)[0].numpy(), x.sum(axis).numpy(), 1e-4, 1e-5)
