"""Calls that write to where their results are to lie, without a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.backends.numpy import blas, gemm, kernels, threads
from gradient.plan import record
from gradient.plan.executors import CpuExecutor

pytestmark = pytest.mark.cpu_only

Function = Callable[[gradient.Tensor], object]

state = gradient.arange(6, dtype=gradient.float32).reshape(2, 3)
"""What is written: memory from before the plan."""


def scaled(x: gradient.Tensor) -> None:
    state.mul_(x)


def from_itself_turned(x: gradient.Tensor) -> None:
    state.copy_(state.flip(1) + x)


def read_between(x: gradient.Tensor) -> None:
    new = state * x
    x += state
    state.copy_(new + 1)


def read_afterwards(x: gradient.Tensor) -> gradient.Tensor:
    new = state + x
    state.copy_(new)
    return new * state


def in_part(x: gradient.Tensor) -> None:
    state[:, 1:] *= x[:, 1:]


def of_another_dtype(x: gradient.Tensor) -> None:
    state.copy_(x.to(gradient.float64) * 2)


@pytest.mark.parametrize(
    ("function", "copies"),
    [
        (scaled, 0),
        (from_itself_turned, 1),
        (read_between, 0),
        (read_afterwards, 1),
        (in_part, 0),
        (of_another_dtype, 3),
    ],
)
def test_in_place_operations_are_one_pass(function: Function, copies: int) -> None:
    start = np.arange(6, dtype="f").reshape(2, 3)
    x = gradient.tensor([[2.0, 3.0, 5.0], [7.0, 11.0, 13.0]])
    given = x.numpy().copy()

    state.numpy()[...] = start
    function(gradient.tensor(given))
    expected = state.numpy().copy()

    plan = record(function, x, inputs=[x]).plan
    executor = CpuExecutor(plan, poison=True)
    state.numpy()[...] = start
    executor.run([given], {})
    np.testing.assert_array_equal(state.numpy(), expected)
    left = [step for step in executor.program if step[0] is np.copyto]
    assert len(left) == copies, executor.program


def test_a_large_linear_writes_to_its_place() -> None:
    x, weight, bias = (
        gradient.randn(*shape, dtype=gradient.float64) for shape in ((2, 64, 64), (128, 64), (128,))
    )
    recording = record(lambda: F.linear(x, weight, bias))
    outputs = tuple(ref for _, ref in recording.survivors)
    executor = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True)
    if blas.openblas() is not None:
        assert [step[0] for step in executor.program] == [blas.matmul]
    assert executor.run([], {})[0].tobytes() == recording.result.numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 50])
def test_a_small_linear_is_numpys(rows: int, biased: bool, dtype: str) -> None:
    x, weight = gradient.randn(rows, 24, dtype=dtype), gradient.randn(40, 24, dtype=dtype)
    bias = gradient.randn(40, dtype=dtype) if biased else None
    recording = record(lambda: F.linear(x, weight, bias))
    outputs = tuple(ref for _, ref in recording.survivors)
    executor = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True)
    assert [step[0] for step in executor.program] == [np.dot, np.add][: 1 + biased]
    assert executor.run([], {})[0].tobytes() == recording.result.numpy().tobytes()


def test_dropout_is_a_task_between_others() -> None:
    if not kernels.available():
        pytest.skip("no kernels for this processor")
    x = gradient.randn(256, 600)
    recording = record(lambda: F.dropout(x.relu(), 0.25).relu())
    outputs = tuple(ref for _, ref in recording.survivors)
    executor = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True)
    assert "the kernel dropout" in str(executor)
    assert [step[0] for step in executor.program] == [threads.run_tasks]


@pytest.mark.parametrize("biased", [True, False])
def test_larger_products_are_tasks(biased: bool) -> None:
    if not gemm.takes(np.ones((100, 200), "f"), np.ones((200, 300), "f")):
        pytest.skip("no kernels for this processor")
    x, weight, bias = gradient.randn(2, 64, 80), gradient.randn(130, 80), gradient.randn(130)
    recording = record(lambda: F.linear(x, weight, bias if biased else None) @ weight)
    outputs = tuple(ref for _, ref in recording.survivors)
    executor = CpuExecutor(replace(recording.plan, outputs=outputs), poison=True)
    assert [step[0] for step in executor.program] == [threads.run_tasks]
    assert executor.run([], {})[0].tobytes() == recording.result.numpy().tobytes()
