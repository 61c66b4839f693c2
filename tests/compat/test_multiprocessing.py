"""`gradient.multiprocessing`: tensors that processes share, and `spawn`."""

from __future__ import annotations

import os
from typing import Any

import pytest

import gradient
import gradient.multiprocessing as mp
from gradient import nn
from gradient.errors import ArgumentError

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system"),
    # Python 3.12 warns of a fork beside threads; ours are made anew in the child.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]


def finished(function: Any, *args: Any) -> None:
    process = mp.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0


def train(model: nn.Module) -> None:
    optimizer = gradient.optim.SGD(model.parameters(), lr=0.5)
    model(gradient.ones(1, 2)).sum().backward()
    optimizer.step()
    model.steps.add_(1)


def test_a_forked_process_trains_the_parents_module() -> None:
    model = nn.Linear(2, 1)
    model.register_buffer("steps", gradient.zeros((), dtype=gradient.int64))
    weight, before = model.weight, model.weight.tolist()
    assert model.share_memory() is model and model.weight is weight
    assert weight.is_shared() and weight.requires_grad and weight.tolist() == before
    for _ in range(2):
        finished(train, model)
    assert model.steps.item() == 2 and weight.grad is None
    assert weight[0].tolist() == pytest.approx([value - 1 for value in before[0]], abs=1e-6)


@pytest.mark.parametrize("dtype", [gradient.float64, gradient.bfloat16, gradient.bool])
def test_a_shared_tensor_has_its_elements(dtype: gradient.dtype) -> None:
    x = gradient.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype).t()
    expected = x.tolist()
    assert not x.is_shared()
    assert x.share_memory_() is x and x.is_shared() and x[1:].is_shared()
    array = x.array
    assert x.share_memory_().array is array  # it was shared
    assert x.tolist() == expected and x.dtype is dtype
    assert not x.clone().is_shared()
    assert gradient.zeros(0, 2).share_memory_().shape == (0, 2)


def fill(x: gradient.Tensor) -> None:
    x.fill_(7)


def test_a_spawned_process_trains_the_parents_module() -> None:
    model = nn.Linear(2, 1)
    model.register_buffer("steps", gradient.zeros((), dtype=gradient.int64))
    before, view = model.share_memory().weight.tolist(), model.bias.detach()[:, None].t()
    for function, shared in ((train, model), (fill, view)):
        process = mp.get_context("spawn").Process(target=function, args=(shared,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert model.steps.item() == 1 and model.bias.item() == 7
    assert model.weight[0].tolist() == pytest.approx([value - 0.5 for value in before[0]], abs=1e-6)


def put(queue: Any, x: gradient.Tensor) -> None:
    queue.put(2 * x)


def test_a_queue_carries_copies() -> None:
    queue = mp.get_context("fork").SimpleQueue()
    finished(put, queue, gradient.arange(3))
    assert queue.get().tolist() == [0, 2, 4]


def mark(index: int, shared: gradient.Tensor) -> None:
    shared[index] += 1


def fail(index: int) -> None:
    if index == 1:
        raise ValueError("the second one")


def leave(index: int) -> None:
    raise SystemExit(3)


def test_starting_processes() -> None:
    shared = gradient.zeros(3).share_memory_()
    assert mp.start_processes(mark, (shared,), nprocs=3, start_method="fork") is None
    assert shared.tolist() == [1, 1, 1]
    started = mp.spawn(mark, (shared,), join=False, start_method="fork")
    assert started is not None and len(started.pids()) == 1
    assert started.join()
    assert shared.tolist() == [2, 1, 1]
    with pytest.raises(mp.ProcessRaisedException, match="process 1 raised:[^$]*the second one"):
        mp.spawn(fail, nprocs=2, start_method="fork")
    with pytest.raises(mp.ProcessExitedException, match="process 0 ended with exit code 3"):
        mp.spawn(leave, start_method="fork")


def test_names_of_sharing() -> None:
    assert mp.get_all_sharing_strategies() == {mp.get_sharing_strategy()}
    mp.set_sharing_strategy("file_system")
    with pytest.raises(ArgumentError, match="'file_descriptor', got 'mail'"):
        mp.set_sharing_strategy("mail")
