"""Tasks side by side, by the driver's own table: who needs another's result waits for it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.backends.numpy import tasks, threads
from gradient.plan.executors.concurrency import Accesses, with_concurrency
from gradient.plan.executors.program import early, task

pytestmark = pytest.mark.cpu_only

MEMORY = np.zeros(1 << 17, np.uint8)
PLACES = [MEMORY[i << 14 : (i << 14) + n] for i in range(7) for n in (64, 1 << 14, 1 << 15)]


def rows_of(calls: Sequence[Accesses], chunks: Sequence[int]) -> list[tuple[int, ...]]:
    """The driver's table for tasks of so many chunks: those of none are not in it."""
    steps: Any = [
        (task, (None, n, 1, *call.read, *call.written))
        for call, n in zip(calls, chunks, strict=True)
    ]
    nowhere = tasks.Block(np.zeros(0, np.int64), 0)
    made = [
        tasks._Task(lambda: None, 0, nowhere, n, 1, function is task)
        for (function, _), n in zip(with_concurrency(steps, calls), chunks, strict=True)
    ]
    return tasks._rows(made)[0]


def meet(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> bool:
    return any(np.may_share_memory(x, y) for x in xs for y in ys)


def needs(later: Accesses, earlier: Accesses) -> bool:
    used = (*later.read, *later.written)
    return meet(earlier.written, used) or meet(earlier.read, later.written)


def comes_after(later: tuple[int, ...], earlier: tuple[int, ...]) -> bool:
    """Whether a row of the table begins when the other is done: it waits, or the same thread goes
    from one to the other."""
    first, end, after = later[4:]
    same_thread = first == end == earlier[5] and earlier[5] - earlier[4] < 2
    return same_thread or earlier[5] <= after


@pytest.mark.parametrize("least", [1, 0])
def test_tasks_begin_when_those_they_need_are_done(least: int) -> None:
    draws, beside = random.Random(least), 0
    for _ in range(1500):
        n = draws.randint(2, 14)
        calls = [Accesses(draws.choices(PLACES, k=draws.randint(0, 2)), draws.choices(PLACES))
                 for _ in range(n)]  # fmt: skip
        chunks = [draws.choice([least, 1, 1, 2, 3]) for _ in range(n)]
        run = [call for call, k in zip(calls, chunks, strict=True) if k]
        rows = rows_of(calls, chunks)
        for (a, row), (b, later) in itertools.combinations(zip(run, rows, strict=True), 2):
            ordered = comes_after(later, row)
            assert ordered or not needs(b, a), (calls, chunks)
            beside += not ordered
    assert beside > 1000


def test_the_second_part_of_a_plan_is_put_in_order_by_itself() -> None:
    """Its first task would stand beside the forward pass's last one, and who follows that on the
    same thread beside who needs it."""
    pytest.importorskip("numba")
    w = gradient.randn(256, 256, requires_grad=True)
    f = gradient.compile(lambda x: x @ w, fullgraph=True)
    for _ in range(4):
        f(gradient.randn(256, 256)).sum().backward()
    (signature,) = f.signatures.values()
    executor: Any = signature.variants[-1].executor
    first, second = (
        [function for function, _ in part if function is not early]
        for part in (executor._steps[: executor._boundary], executor._steps[executor._boundary :])
    )
    assert first[0] is task and second[0] is task


def test_gradients_outside_of_a_compiled_module_do_not_depend_on_who_is_first() -> None:
    """The gradient of the hidden layer reads a product of the second part, which has to be done."""
    pytest.importorskip("numba")
    before = threads.get_num_threads()
    threads.set_num_threads(3)
    try:
        first, second = nn.Linear(256, 256), nn.Linear(256, 256)
        model = gradient.compile(lambda x: second(first(x).relu()), fullgraph=True, fuse=True)
        parameters: list[Any] = [*first.parameters(), *second.parameters()]
        x, grad = gradient.randn(32, 256), gradient.randn(32, 256)
        found = set()
        for i in range(200):
            for p in parameters:
                p.grad = None
            scale = 2.0 ** (i % 4)  # exact, so that what an earlier run left behind shows
            model(x).backward(grad * scale)
            if i >= 4:
                found.add(b"".join((p.grad / scale).numpy().tobytes() for p in parameters))
        assert len(found) == 1
    finally:
        threads.set_num_threads(before)
