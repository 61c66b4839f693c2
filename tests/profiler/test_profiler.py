"""What a profiler notes of ops, backward passes and blocks."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import gradient
from gradient import nn
from gradient.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    tensorboard_trace_handler,
)
from gradient.profiler.events import EventList, FunctionEvent


def counts(prof: Any) -> dict[str, int]:
    return {row.key: row.count for row in prof.key_averages()}


def step(x: gradient.Tensor) -> None:
    (x * 2).relu().sum().backward()


def test_ops_and_gradients_are_counted():
    x = gradient.ones(2, 3, requires_grad=True)
    before = sys.getprofile()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:
        for _ in range(3):
            step(x)
    x.exp()
    assert sys.getprofile() is before
    assert counts(prof) == {
        "mul": 3, "relu": 3, "sum": 3, "SumBackward0": 3, "ReluBackward0": 3, "MulBackward0": 3,
    }  # fmt: skip
    for row in prof.key_averages():
        assert 0 < row.self_cpu_time_total <= row.cpu_time_total
        assert row.cpu_time == row.cpu_time_total / 3


def test_what_functions_of_the_user_do_is_within():
    class Square(gradient.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = gradient.ones(2, requires_grad=True)
    with profile() as prof, record_function("all of it"):
        Square.apply(x).sum().backward()
    outer, *inner = prof.events()
    assert outer.name == "all of it" and outer.is_user_annotation and outer.cpu_parent is None
    backward = next(e for e in inner if e.name == "SquareBackward")
    assert [e.name for e in backward.cpu_children] == ["mul", "mul"]
    assert outer.self_cpu_time_total < outer.cpu_time_total
    assert outer.cpu_time_total >= sum(e.self_cpu_time_total for e in inner)


def test_blocks_within_and_functions():
    @record_function("twice")
    def twice(n: int) -> None:
        if n:
            twice(n - 1)

    twice(1)  # no profiler: nothing is noted, and nothing fails
    with profile() as prof:
        twice(1)
        with pytest.raises(ZeroDivisionError), record_function("fails"):
            1 / 0  # noqa: B018
        with pytest.raises(RuntimeError):
            gradient.ones(2) + gradient.ones(3)
    assert counts(prof)["twice"] == 2 and counts(prof)["fails"] == 1
    (row,) = (row for row in prof.key_averages() if row.key == "twice")
    assert row.cpu_time_total == max(e.cpu_time_total for e in prof.events() if e.name == "twice")


def test_derivatives_of_derivatives():
    x = gradient.tensor(2.0, requires_grad=True)
    with profile() as prof:
        (g,) = gradient.autograd.grad(x**3, x, create_graph=True)
    (node,) = (e for e in prof.events() if e.name == "PowBackward0")
    assert node.cpu_children and g.item() == 12


def test_the_table():
    x = gradient.ones(2, 3, requires_grad=True)
    with profile(record_shapes=True, with_stack=True) as prof:
        step(x)
        x @ x.T
    text = prof.key_averages(group_by_input_shape=True).table(sort_by="self_cpu_time_total")
    for word in ("Name", "Self CPU %", "# of Calls", "[[2, 3], [3, 2]]", "Self CPU time total:"):
        assert word in text
    rows = prof.key_averages().table(sort_by="cuda_time_total", row_limit=2, time_unit="ms")
    assert len(rows.splitlines()) == 3 + 2 + 2 and "ms" in rows
    assert "test_profiler.py" in prof.key_averages(group_by_stack_n=1).table()
    times = [e.cpu_time_total for e in prof.key_averages()]
    first = prof.key_averages().table(sort_by="cpu_time_total").splitlines()[3].split()[0]
    assert first == max(prof.key_averages(), key=lambda row: row.cpu_time_total).key
    assert prof.key_averages().total_average().count == len(times)
    assert "Self CPU time total: 0.000us" in type(prof.events())().table()
    with pytest.raises(ValueError, match="table: expected sort_by"):
        prof.key_averages().table(sort_by="name")


def test_files(tmp_path: Path):
    with profile(with_stack=True, record_shapes=True) as prof:
        gradient.ones(4).exp()
    prof.export_chrome_trace(tmp_path / "trace.json")
    (event,) = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert event["name"] == "exp" and event["ph"] == "X" and event["dur"] > 0
    assert event["args"]["Input Dims"] == [[4]]
    prof.export_stacks(tmp_path / "stacks.txt")
    line = (tmp_path / "stacks.txt").read_text().split(";")
    assert "test_profiler.py" in line[0] and line[1].startswith("exp ")


def test_a_schedule_of_steps(tmp_path: Path):
    plan = schedule(skip_first=1, wait=1, warmup=1, active=2, repeat=2)
    none, warm, record, save = ProfilerAction
    assert [plan(i) for i in range(10)] == [
        none, none, warm, record, save, none, warm, record, save, none
    ]  # fmt: skip
    seen: list[dict[str, int]] = []
    write = tensorboard_trace_handler(tmp_path, "worker")

    def ready(prof: profile) -> None:
        seen.append(counts(prof))
        write(prof)

    with profile(schedule=plan, on_trace_ready=ready) as prof:
        for _ in range(12):
            gradient.ones(2).exp()
            prof.step()
    assert seen == [{"exp": 2}, {"exp": 2}]
    assert len(list(tmp_path.glob("worker.*.pt.trace.json"))) == 2
    with pytest.raises(ValueError, match="schedule: expected steps"):
        schedule(wait=0, warmup=0, active=0)


def test_one_profiler_at_a_time():
    with profile(), pytest.raises(ValueError, match="one profiler at a time"), profile():
        pass
    with profile() as prof:
        gradient.ones(1).exp()
    assert counts(prof) == {"exp": 1}


def test_the_older_name():
    old = importlib.import_module("gradient.autograd.profiler")
    model = nn.Linear(2, 2)
    with old.profile(use_cuda=False) as prof, old.record_function("forward"):
        model(gradient.ones(1, 2))
    assert [row.key for row in prof.key_averages()] == ["forward", "linear"]
    assert "forward" in str(prof) and prof.self_cpu_time_total > 0
    with old.profile(enabled=False) as none, old.emit_nvtx():
        model(gradient.ones(1, 2))
    assert none is None


def test_calls_of_a_replayed_plan():
    @gradient.compile
    def squares(x: gradient.Tensor) -> gradient.Tensor:
        return (x * x).sum()

    x = gradient.arange(4.0)
    for _ in range(3):
        squares(x)
    with profile(record_shapes=True, with_stack=True) as prof:
        assert squares(x) == 14
    outer = [event for event in prof.events() if event.cpu_parent is None]
    assert [event.name for event in outer][:2] == ["mul", "sum"]
    assert outer[0].input_shapes == [[4], [4]] and "test_profiler.py" in outer[0].stack[0]
    (within,) = outer[0].cpu_children
    assert within.name == "numpy.multiply" and within.cpu_time_total > 0


def test_calls_of_both_parts_of_a_replayed_module():
    model = gradient.compile(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    x = gradient.ones(2, 3)
    for _ in range(4):
        model.zero_grad()
        with profile() as prof:
            model(x).sum().backward()
    made = counts(prof)
    assert made["linear"] == 1 and made["numpy.dot"] == 2


def test_a_call_within_one_of_its_name_is_counted_with_that_in_its_row_alone():
    outer = FunctionEvent("matmul", 0.0, 1, end=10.0)
    inner = FunctionEvent("matmul", 2.0, 1, outer, end=8.0, input_shapes=[[2, 3], [3, 2]])
    outer.cpu_children.append(inner)
    (row,) = EventList([outer, inner]).key_averages()
    assert (row.count, row.cpu_time_total, row.self_cpu_time_total) == (2, 10, 10)
    rows = EventList([outer, inner]).key_averages(group_by_input_shape=True)
    assert [(row.cpu_time_total, row.self_cpu_time_total) for row in rows] == [(10, 4), (6, 6)]
