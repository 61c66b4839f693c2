"""Replays of a step that follow each other: each of the last one's result, as when the host passes
them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda.backend import CudaBackend
from gradient.plan.step import RecordedStep, Replay
from support import fake_cupy
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]
RUNS = 5


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    fake_cupy.waits.clear()
    yield
    fake_cupy.waits.clear()


def integers(*shape: int, dtype: Any = np.int64) -> gradient.Tensor:
    draw = np.random.default_rng(0)
    return gradient.tensor(draw.integers(0, 9, shape).astype(dtype), device=DEVICE)


def check(step: Any, counts: gradient.Tensor, given: gradient.Tensor, table: Any = None) -> Replay:
    """Replays of step(x) or step(x, row of the table), which may add to `counts`, give what the
    function gives."""
    inputs = [given] if table is None else [given, table[0]]
    replay = Replay(RecordedStep(step, inputs, [counts], RUNS), [counts])
    replay(*[t.array for t in inputs])  # call by call
    for runs in (3, RUNS, 1, RUNS):
        counts.zero_()
        expected, x, others = [], given.clone(), None
        for run in range(runs):
            x, other = step(x, *([] if table is None else [table[run]]))
            expected.append(x.tolist())
            others = others or other.tolist()
        after = counts.tolist()
        counts.zero_()
        of_runs = None if table is None else table[:runs].array
        found, other = replay.follow(given.array, of_runs, runs)
        assert (found.tolist(), other.tolist(), counts.tolist()) == (expected, others, after)
        counts.zero_()
        alone = replay(*[t.array for t in inputs])  # between those that follow each other
        assert [t.tolist() for t in alone] == [expected[0], others]
    return replay


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("numbers", [None, np.float32, np.float16])
@pytest.mark.parametrize("counted", ["last", "read", "not"])
def test_replays_follow_each_other(rows: int, numbers: Any, counted: str) -> None:
    """Three numbers of 16 bits are not whole words, so no kernel copies them."""
    counts = gradient.zeros(2, dtype=gradient.int64, device=DEVICE)

    def step(x: gradient.Tensor, *more: gradient.Tensor) -> tuple[gradient.Tensor, ...]:
        if counted != "not":
            counts.add_(3)
        made = x * 2 + (counts.sum() if counted == "read" else 1)
        return made + more[0].sum().long() if more else made, made * 1.5

    table = None if numbers is None else integers(RUNS, 3, dtype=numbers)
    replay = check(step, counts, integers(rows), table)
    calls = replay.executor.plan.calls
    assert sum(call.op == "iadd" for call in calls) == (counted == "read")
    launched = replay.backend.runtime.launched
    launched.clear()
    replay(*[x.array for x in ([integers(rows)] if table is None else [integers(rows), table[0]])])
    assert ("feed_back_float32" in launched) == (numbers is not np.float16)


def test_an_input_that_is_counted_up() -> None:
    """The sum is not left to the last call, which overwrites it."""
    counts = gradient.zeros(2, dtype=gradient.int64, device=DEVICE)

    def step(x: gradient.Tensor) -> tuple[gradient.Tensor, ...]:
        made = x * 2, x * 1.5
        x.add_(5)
        return made

    check(lambda x: step(x.clone()), counts, integers(3))
    recorded = RecordedStep(step, [integers(3)], [counts], RUNS)
    replay = Replay(recorded, [counts])
    for runs in (1, RUNS, RUNS):
        found, _ = replay.follow(integers(3).array, None, runs)
        expected = [(integers(3) * 2**i).tolist() for i in range(1, runs + 1)]
        assert found.tolist() == expected


def test_a_result_in_the_memory_of_an_input() -> None:
    """The last call would overwrite it, so there is none."""
    x = integers(3)
    step = RecordedStep(lambda x: (x + 1, x.view(3, 1)), [x], [], RUNS)
    replay = Replay(step, [])
    assert not replay.follows
    for _ in range(3):
        first, second = replay(x.array)
        assert first.tolist() == (x + 1).tolist() and second.tolist() == x.view(3, 1).tolist()


@pytest.mark.parametrize("refused", [("exp",), ("feed_back",), ("exp", "log", "feed_back")])
def test_calls_that_are_in_no_graph(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture fails in the first run, so the next ones are made call by call, too."""
    for name in refused:
        method = getattr(CudaBackend, name)

        def refusing(self: CudaBackend, *args: Any, method: Any = method) -> Any:
            if fake_cupy.capture.work is not None:
                raise RuntimeError("cudaErrorStreamCaptureUnsupported")
            return method(self, *args)

        monkeypatch.setattr(CudaBackend, name, refusing)
    counts = gradient.zeros(2, dtype=gradient.int64, device=DEVICE)

    def step(x: gradient.Tensor, row: gradient.Tensor) -> tuple[gradient.Tensor, ...]:
        counts.add_(1)
        made = (x + row).exp().log() / 2
        return made, made * 1.5

    table = integers(RUNS, 3, dtype=np.float32)
    replay = check(step, counts, integers(3, dtype=np.float32), table)
    alone = {replay.executor.calls[i].op for i in replay.executor.alone}
    assert alone == set(refused)
