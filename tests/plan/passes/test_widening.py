"""Choices among floats before a cast to wider ones: what they read, and that they stay the same."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import Tensor
from gradient.ops import reduce
from gradient.plan import record
from gradient.plan.executors import executor_for
from gradient.plan.passes import without_dead_calls, without_widening
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]
ROWS = [
    [1.0, 3.0, 3.0, 2.0],
    [-0.0, 0.0, -1.0, -math.inf],
    [math.nan, math.inf, math.nan, 1.0],
    [-math.inf] * 4,
    [1.0, 1.001, 1.002, 1.003],  # equal in bfloat16
]


def likeliest(x: Tensor) -> Tensor:
    return reduce.likeliest(x.float())


def largest(x: Tensor) -> Tensor:
    return x.double().argmax(-1)


def smallest(x: Tensor) -> Tensor:
    return x.double().argmin(0)


def narrowed(x: Tensor) -> Tensor:
    return x.float().half().argmax(-1)


def counted(x: Tensor) -> Tensor:
    return x.long().argmax(-1)


def written(x: Tensor) -> Tensor:
    y = x.double()
    y[:, 0] = 9
    return y.argmax(-1)


def computed(x: Tensor) -> Tensor:
    return (x.double() * -1).argmax(-1)


@pytest.mark.parametrize(
    ("function", "dtype", "casts"),
    [
        (likeliest, "bfloat16", 0),
        (likeliest, "float16", 0),
        (largest, "bfloat16", 0),
        (largest, "float32", 0),
        (smallest, "float16", 0),
        (narrowed, "float32", 1),
        (counted, "float32", 1),
        (written, "float32", 1),
        (computed, "float32", 1),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_chosen_without_a_cast(
    function: Callable[[Tensor], Tensor], dtype: str, casts: int
) -> None:
    rows = np.array(ROWS)
    if function is counted:
        rows = np.nan_to_num(rows, nan=0, posinf=99, neginf=-99)
    x = gradient.tensor(rows, device=DEVICE).to(getattr(gradient, dtype))
    recording: Any = record(function, x, inputs=[x], device=DEVICE)
    refs = {id(t): ref for t, ref in recording.survivors}
    plan = replace(recording.plan, outputs=(refs[id(recording.result)],))
    plan = without_dead_calls(without_widening(plan))
    assert sum(call.op == "astype" for call in plan.calls) == casts
    executor = executor_for(plan, x.backend)
    for given in (x, x.flip(0).flip(1).contiguous()):
        [found] = executor.run([given.array], {})
        assert x.backend.to_numpy(found).tolist() == function(given).tolist()
