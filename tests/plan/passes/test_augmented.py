"""Augmented assignments as one call: what is joined, and what must stay apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import Tensor
from gradient.plan import record
from gradient.plan.executors import executor_for
from gradient.plan.passes import with_augmented_assignment, without_dead_calls
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

Step = Callable[[Tensor, Tensor], None]


def counted(x: Tensor, y: Tensor) -> None:
    x += 1


def several(x: Tensor, y: Tensor) -> None:
    x -= y
    x *= y
    y += x


def in_part(x: Tensor, y: Tensor) -> None:
    x[1:] += y[:1]


def read_before(x: Tensor, y: Tensor) -> None:
    y.copy_(x)
    x += 1


def read_in_between(x: Tensor, y: Tensor) -> None:
    z = x + 1
    y += x
    x.copy_(z)


def written_in_between(x: Tensor, y: Tensor) -> None:
    z = x + y
    y += 1
    x.copy_(z)


def read_again(x: Tensor, y: Tensor) -> None:
    z = x + 1
    x.copy_(z)
    y += z


def viewed(x: Tensor, y: Tensor) -> None:
    z = x + 1
    y += z.view(6).view(2, 3)
    x.copy_(z)


def of_another(x: Tensor, y: Tensor) -> None:
    x.copy_(y + 1)


def to_itself(x: Tensor, y: Tensor) -> None:
    x.copy_(x + x[:1])


@pytest.mark.parametrize(
    ("step", "after"),
    [
        (counted, ["iadd"]),
        (several, ["isub", "imul", "iadd"]),
        (in_part, ["iadd", "assign"]),  # of the part, to where it is already
        (read_before, ["assign", "iadd"]),
        (read_in_between, ["iadd", "iadd"]),
        (written_in_between, ["add", "iadd", "assign"]),
        (read_again, ["add", "assign", "iadd"]),
        (viewed, ["add", "iadd", "assign"]),
        (of_another, ["add", "assign"]),
        (to_itself, ["add", "assign"]),
    ],
)
@pytest.mark.parametrize("dtype", ["int64", "float32", "bfloat16"])
def test_what_is_one_call(step: Step, after: list[str], dtype: str) -> None:
    def tensors() -> list[Tensor]:
        numbers = [np.arange(6).reshape(2, 3) * 3 - 4, np.arange(6)[::-1].reshape(2, 3) * 7]
        made = [gradient.tensor(x.copy(), device=DEVICE) for x in numbers]
        return [t.to(getattr(gradient, dtype)) for t in made]

    held, eager = tensors(), tensors()
    with gradient.no_grad():
        recording: Any = record(lambda: step(*held), device=DEVICE)
        plan = with_augmented_assignment(without_dead_calls(recording.plan))
        assert [c.op for c in plan.calls if not c.view and c.op != "full"] == after
        executor = executor_for(plan, held[0].backend)
        step(*eager)
        for _ in range(3):  # the recording was a run, too
            executor.run([], {})
            step(*eager)
    for t, expected in zip(held, eager, strict=True):
        assert t.tolist() == expected.tolist()
