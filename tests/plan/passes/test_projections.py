"""Linear layers of one input as one call: what is taken together, and what must stay apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import Tensor
from gradient.ops.fused import rms_norm
from gradient.plan import record
from gradient.plan.executors import executor_for
from gradient.plan.passes import with_projections, without_dead_calls
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

WIDTH = 64
COUNTED = {"projections", "linear", "rms_norm", "silu", "mul", "add"}


def tensor(*shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return gradient.tensor(values, device=DEVICE).to(gradient.bfloat16)


def norm(x: Tensor) -> Tensor:
    return rms_norm(x, weight_of_norm(), eps=1e-5, round_first=True)


_held: dict[int, Tensor] = {}


def weight(n: int) -> Tensor:
    """The n-th matrix: the same in each call, as a parameter is."""
    if n not in _held:
        _held[n] = tensor(WIDTH, WIDTH, seed=n)
    return _held[n]


def weight_of_norm() -> Tensor:
    return _held.setdefault(-1, tensor(WIDTH, seed=99))


def several(x: Tensor) -> Tensor:
    y = norm(x)
    return gradient.cat([F.linear(y, weight(i)) for i in range(3)], -1)


def five(x: Tensor) -> Tensor:
    y = norm(x)
    return gradient.cat([F.linear(y, weight(i)) for i in range(5)], -1)


def gated(x: Tensor) -> Tensor:
    y = norm(x)
    return F.silu(F.linear(y, weight(1))) * F.linear(y, weight(2))


def gated_by_the_second(x: Tensor) -> Tensor:
    up, gate = F.linear(x, weight(1)), F.linear(x, weight(2))
    return up * F.silu(gate)


def added(x: Tensor) -> Tensor:
    return x + F.linear(norm(x), weight(3))


def added_to_later(x: Tensor) -> Tensor:
    y = F.linear(x, weight(3))
    return y + x.exp()


def norm_read_twice(x: Tensor) -> Tensor:
    y = norm(x)
    return gradient.cat([F.linear(y, weight(1)), F.linear(y, weight(2)), y], -1)


def product_read_twice(x: Tensor) -> Tensor:
    y = F.linear(x, weight(1))
    return (x + y) * y


def product_viewed(x: Tensor) -> Tensor:
    y = F.linear(x, weight(1))
    return gradient.cat([x + y, y.view(1, WIDTH)], -1)


def written_between(x: Tensor) -> Tensor:
    y = x * 2
    first = F.linear(y, weight(1))
    y.add_(1)
    return gradient.cat([first, F.linear(y, weight(2))], -1)


def third_weight_made_later(x: Tensor) -> Tensor:
    y = norm(x)
    return gradient.cat([F.linear(y, weight(i) * 1.5 if i == 2 else weight(i)) for i in range(3)])


def first_weight_made_before(x: Tensor) -> Tensor:
    made = weight(1) * 1.5
    return gradient.cat([F.linear(x, made), F.linear(x, weight(2))], -1)


def gated_by_a_weight_made_later(x: Tensor) -> Tensor:
    return F.silu(F.linear(x, weight(1))) * F.linear(x, weight(2) * 1.5)


def weight_of_the_first_product(x: Tensor) -> Tensor:
    y = F.linear(x, weight(1))
    return gradient.cat([y, F.linear(x, y.expand(WIDTH, WIDTH))], -1)


def two_products_added(x: Tensor) -> Tensor:
    return F.linear(x, weight(1)) + F.linear(x.exp(), weight(2))


def with_a_bias(x: Tensor) -> Tensor:
    return gradient.cat([F.linear(x, weight(i), weight_of_norm()) for i in range(2)], -1)


def added_twice(x: Tensor) -> Tensor:
    y = F.linear(x, weight(1))
    return y + y


@pytest.mark.parametrize(
    ("function", "after"),
    [
        (several, ["projections"]),
        (five, ["rms_norm", "projections", "projections"]),
        (gated, ["projections"]),
        (gated_by_the_second, ["projections"]),
        (added, ["projections"]),
        (added_to_later, ["projections"]),
        (norm_read_twice, ["rms_norm", "projections"]),
        (product_read_twice, ["linear", "add", "mul"]),
        (product_viewed, ["linear", "add"]),
        (written_between, ["mul", "linear", "add", "linear"]),
        (third_weight_made_later, ["rms_norm", "projections", "mul", "linear"]),
        (first_weight_made_before, ["mul", "linear", "linear"]),
        (gated_by_a_weight_made_later, ["linear", "silu", "mul", "linear", "mul"]),
        (weight_of_the_first_product, ["linear", "linear"]),
        (two_products_added, ["linear", "projections"]),
        (with_a_bias, ["linear", "linear"]),
        (added_twice, ["linear", "add"]),
    ],
)
def test_what_is_one_call(function: Callable[[Tensor], Tensor], after: list[str]) -> None:
    x = tensor(1, WIDTH, seed=7)
    with gradient.no_grad():
        function(x)
        recording: Any = record(function, x, inputs=[x], device=DEVICE)
        refs = {id(t): ref for t, ref in recording.survivors}
        plan = replace(recording.plan, outputs=(refs[id(recording.result)],))
        plan = with_projections(without_dead_calls(plan))
        assert [call.op for call in plan.calls if call.op in COUNTED] == after
        executor = executor_for(plan, x.backend)
        for seed in (7, 8, 9):
            given = tensor(1, WIDTH, seed=seed)
            [found] = executor.run([given.array], {})
            expected = function(given).array
            read = x.backend.to_numpy
            assert read(found).tobytes() == read(expected).tobytes()
