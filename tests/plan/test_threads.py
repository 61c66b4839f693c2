"""Other threads, while one records: their work is what it would have been without."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.autograd import op
from gradient.autograd.op import registry
from gradient.backends.recording_backend import RecordedArray
from gradient.plan import record


class Steps:
    """Has two threads take turns: no test hangs on which of them is quicker."""

    def __init__(self) -> None:
        self.reached: dict[str, threading.Event] = {
            name: threading.Event() for name in ("begun", "recording", "resumed", "over")
        }

    def reach(self, name: str) -> None:
        self.reached[name].set()

    def wait(self, name: str) -> None:
        assert self.reached[name].wait(60), f"{name} was not reached"


@contextmanager
def beside(work: Callable[[], Any], found: list[Any]) -> Iterator[threading.Thread]:
    """`work` in another thread; what it gave, or raised, is in `found`."""

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    if isinstance(found[0], BaseException):
        raise found[0]


def test_an_op_that_began_before_a_recording_ends_within_it() -> None:
    steps = Steps()
    shared, found = gradient.full((3,), 2.0), list[Any]()

    def work() -> Any:
        exp = shared.backend.exp  # as an op has it, when
        steps.reach("begun")
        steps.wait("recording")
        result = exp(shared.array)
        steps.reach("over")
        return result

    def here() -> gradient.Tensor:
        made = shared * 3
        steps.reach("recording")
        steps.wait("over")
        return made

    with beside(work, found):
        steps.wait("begun")
        recording = record(here)
    assert [call.op for call in recording.plan.calls] == ["mul"]
    assert (
        type(found[0]) is np.ndarray and found[0].tolist() == np.exp(np.full(3, 2.0, "f")).tolist()
    )


def test_an_op_that_begins_within_a_recording_ends_behind_it() -> None:
    steps = Steps()
    shared, found = gradient.full((3,), 2.0, requires_grad=True), list[Any]()

    @op(lambda g, be, out: g * out)
    def slow_exp(be: Any, x: Any, /) -> Any:
        method = be.exp
        steps.reach("begun")
        steps.wait("resumed")
        return method(x) + be.exp(x) * 0

    del registry["slow_exp"]  # whose ops all have rows of tests

    def here() -> gradient.Tensor:
        steps.reach("recording")
        steps.wait("begun")
        return shared * 3

    def work() -> Any:
        steps.wait("recording")
        return slow_exp(shared)

    with beside(work, found):
        recording = record(here)
        steps.reach("resumed")
    assert [call.op for call in recording.plan.calls] == ["mul"]
    assert found[0].tolist() == shared.exp().tolist()
    found[0].sum().backward()
    assert shared.grad.tolist() == shared.exp().tolist()  # type: ignore[union-attr]


def test_what_another_thread_makes_within_a_recording_is_its_own() -> None:
    steps = Steps()
    model = nn.Linear(3, 2)
    x, found = gradient.ones(4, 3), list[Any]()
    expected = model(x).tolist()

    def work() -> Any:
        steps.wait("recording")
        out = model(x)
        arrays = [out.array, model.weight.array, *(a for a in out.node.saved or ())]
        out.sum().backward()
        steps.reach("over")
        return out, arrays

    def here() -> gradient.Tensor:
        made = x + 1
        steps.reach("recording")
        steps.wait("over")
        return made @ model.weight.T

    with beside(work, found):
        recording = record(here)
    out, arrays = found[0]
    assert not any(isinstance(array, RecordedArray) for array in arrays)
    assert out.tolist() == expected
    assert model.weight.grad.tolist() == [[4.0] * 3] * 2  # type: ignore[union-attr]
    assert not recording.survivors[1:] and not recording.grads and recording.broken is None


def test_what_another_thread_steps_and_draws_is_not_repeated() -> None:
    ours, theirs = (gradient.ones(3, requires_grad=True) for _ in range(2))
    mine, other = gradient.optim.AdamW([ours]), gradient.optim.AdamW([theirs])
    source = gradient.Generator()

    def step(optimizer: gradient.optim.Optimizer, p: gradient.Tensor) -> None:
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()

    def work() -> None:
        step(other, theirs)
        gradient.rand(3, generator=source)
        gradient.Generator().manual_seed(2)

    def recorded() -> None:
        step(mine, ours)
        with beside(work, []):
            pass

    step(mine, ours)
    step(other, theirs)
    readers = record(recorded).readers
    assert other.state[theirs]["step"] == 2 and source.offset == 1
    readers.next_numbers()
    readers.replayed()
    assert mine.state[ours]["step"] == 3
    assert other.state[theirs]["step"] == 2 and source.offset == 1


def test_many_threads_compute_and_train_while_others_record() -> None:
    results: list[Any] = []
    begin = threading.Barrier(5)

    def eager(seed: int) -> None:
        x = gradient.tensor(np.random.default_rng(seed).standard_normal((8, 8)).astype("f"))
        w = x.clone().requires_grad_()
        begin.wait(60)
        seen = set()
        for _ in range(30):
            w.grad = None
            parts = tuple(part for part in (w @ x).softmax(-1).split(2))
            gradient.cat(parts).square().sum().backward()
            seen.add(w.grad.numpy().tobytes())  # type: ignore[union-attr]
        results.append(len(seen) == 1)

    def recorder() -> None:
        w = gradient.ones(4, requires_grad=True)
        begin.wait(60)
        plans = set()
        for _ in range(30):
            plans.add(tuple(call.op for call in record(lambda: (w * 2).exp().sum()).plan.calls))
        results.append(plans == {("mul", "exp", "sum")})

    threads = [threading.Thread(target=eager, args=(i,)) for i in range(3)]
    threads += [threading.Thread(target=recorder) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [True] * 5


def test_recording_asks_the_collector_for_no_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has hold of a tuple that another thread is filling breaks it there."""

    def refused(*args: Any, **options: Any) -> Any:
        raise AssertionError("a recording looks through all objects")

    for name in ("get_objects", "get_referrers", "get_referents"):
        monkeypatch.setattr(gc, name, refused)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = gradient.optim.AdamW(model.parameters())

    @gradient.compile(fullgraph=True)
    def step(x: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(5):
        step(gradient.ones(4, 3))
    assert "2 replayed" in step.explain()
