"""What programs say for PyTorch's compiler, its threads and its timers, which runs as it stands."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import gradient
from gradient.compat import futures

t: Any = gradient


def test_conditions_and_loops() -> None:
    x = gradient.tensor([1.0, 2.0], requires_grad=True)
    y = t.cond(x.sum() > 0, lambda x: x * 2, lambda x: x, (x,))
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2]
    assert t.cond(False, lambda: 1, lambda: 2) == 2
    i, total = t.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0))
    assert (i, total) == (4, 6)


def test_numbers_of_shapes() -> None:
    assert (t.sym_int(2.7), t.sym_float(2), t.sym_not(0)) == (2, 2.0, True)
    assert (t.sym_max(1, 2.0), t.sym_min(1, 2), t.sym_sum([1, 2, 3])) == (2.0, 1, 6)
    assert isinstance(t.sym_max(3, 2.0), float) and isinstance(t.sym_min(1, 2), int)
    assert (t.sym_sqrt(9), t.sym_ite(True, 1, 2), t.sym_ite(False, 1, 2)) == (3.0, 1, 2)


def test_switches_of_autocast() -> None:
    assert not t.is_autocast_enabled("cpu")
    try:
        t.set_autocast_cpu_dtype(t.float16)
        t.set_autocast_enabled("cpu", True)
        assert t.is_autocast_enabled("cpu") and t.get_autocast_dtype("cpu") is t.float16
        assert (t.ones(2, 2) @ t.ones(2, 2)).dtype is t.float16
        t.set_autocast_dtype("cpu", t.bfloat16)
        assert (t.ones(2, 2) @ t.ones(2, 2)).dtype is t.bfloat16
    finally:
        t.set_autocast_cpu_enabled(False)
    assert not t.is_autocast_enabled("cpu")
    assert (t.ones(2, 2) @ t.ones(2, 2)).dtype is t.float32


def test_old_switches_of_autocast_are_those_of_gpus() -> None:
    try:
        t.set_autocast_gpu_dtype(t.bfloat16)
        t.set_autocast_enabled(True)
        assert t.is_autocast_enabled("cuda") and t.get_autocast_dtype("cuda") is t.bfloat16
    finally:
        t.set_autocast_enabled(False)
    assert (t.autocast_increment_nesting(), t.autocast_decrement_nesting()) == (1, 0)


def test_anomaly_detection_from_now_on() -> None:
    try:
        t.set_anomaly_enabled(True, False)
        assert t.is_anomaly_enabled() and not t.is_anomaly_check_nan_enabled()
    finally:
        t.set_anomaly_enabled(False)
    assert not t.is_anomaly_enabled()


def test_what_is_forked_is_waited_for() -> None:
    jit: Any = importlib.import_module("gradient.jit")
    future = jit.fork(lambda a, b: a + b, 1, b=2)
    assert future.done() and jit.wait(future) == 3
    assert future.then(lambda f: f.value() * 2).wait() == 6
    failed = t.fork(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.wait()
    with pytest.raises(ZeroDivisionError):
        failed.then(lambda f: f.wait()).wait()


def test_futures_are_set_once() -> None:
    first, second, seen = futures.Future[int](), futures.Future[int](), []
    both = futures.collect_all([first, second])
    both.add_done_callback(seen.append)
    first.set_result(1)
    assert not both.done() and seen == []
    with pytest.raises(RuntimeError, match="a future without result"):
        first.set_result(2)
    with pytest.raises(RuntimeError, match="a future that is done"):
        second.wait()
    second.set_result(2)
    assert seen == [both] and futures.wait_all(both.wait()) == [1, 2]
    assert futures.collect_all([]).wait() == []


def test_modules_stay_what_they_are() -> None:
    jit, compiler = (importlib.import_module(f"gradient.{name}") for name in ("jit", "compiler"))
    layer = gradient.nn.Linear(2, 2)
    assert jit.freeze(layer) is jit.optimize_for_inference(layer) is layer
    assert jit.annotate(int, 3) == 3 and jit.isinstance([1], list)
    assert compiler.assume_constant_result(layer) is layer
    assert compiler.nested_compile_region(layer) is compiler.nested_compile_region()(layer)
    with compiler.set_stance("force_eager"):
        assert compiler.list_backends() == []
    assert t.func.functionalize(layer) is t.func.debug_unwrap(layer) is layer


def test_batch_norms_without_averages() -> None:
    model = gradient.nn.Sequential(gradient.nn.Conv1d(1, 2, 1), gradient.nn.BatchNorm1d(2))
    assert t.func.replace_all_batch_norm_modules_(model) is model
    assert list(model.buffers()) == [] and not model[1].track_running_stats
    model.eval()
    assert abs(model(gradient.rand(4, 1, 3)).mean().item()) < 1e-6


def test_a_timer() -> None:
    benchmark: Any = importlib.import_module("gradient.utils.benchmark")
    calls: list[int] = []
    found = benchmark.Timer("calls.append(x)", "x = 1", globals={"calls": calls}).timeit(10)
    assert found.number_per_run == 10 and found.median == found.mean > 0 and found.iqr == 0
    assert len(calls) >= 10
    timer = benchmark.Timer(lambda: sum(range(50)), label="sum", sub_label="50", description="int")
    blocks = timer.blocked_autorange(min_run_time=0.002)
    assert sum(blocks.raw_times) >= 0.002 and blocks.number_per_run >= 1
    assert "sum: 50: int" in repr(blocks) and "median" in repr(blocks)
    assert timer.adaptive_autorange(max_run_time=0.002).raw_times
    table = str(benchmark.Compare([blocks]))
    assert "int" in table and table.splitlines()[1].startswith("50")
    with pytest.raises(gradient.errors.ArgumentError, match=r"Timer: expected .* in Python"):
        benchmark.Timer("x += 1;", language="c++")


def test_masks_of_causal_attention() -> None:
    bias: Any = importlib.import_module("gradient.nn.attention.bias")
    assert bias.causal_upper_left(2, 3).tolist() == [[True, False, False], [True, True, False]]
    assert bias.causal_lower_right(2, 3).tolist() == [[True, True, False], [True, True, True]]


def test_a_compiled_module_is_known_by_pytorchs_class() -> None:
    frames: Any = importlib.import_module("gradient._dynamo.eval_frame")
    layer = gradient.nn.Linear(2, 2)
    assert isinstance(gradient.compile(layer), frames.OptimizedModule)
    assert not isinstance(layer, frames.OptimizedModule)
    assert t._dynamo.eval_frame is frames
