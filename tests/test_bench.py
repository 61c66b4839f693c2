"""The benchmarks themselves: that they run, compare like with like, and write what they say."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import gradient
from bench import chart, further_models, machine, training_models
from bench.__main__ import default_file, measure
from bench.cases import CASES, Options, gpu, gpu_convolutions, gpu_step
from bench.measure import Samples, interleave
from bench.result import Result, table
from gradient.backends.cuda import driver
from support import fake_device
from support.paths import CHECKOUT

pytestmark = pytest.mark.cpu_only


def test_contenders_take_turns_and_neighbours_are_compared():
    calls = []
    samples = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4)
    assert "".join(calls) == "abbaabba"
    assert {label: len(sample.seconds) for label, sample in samples.items()} == {"a": 4, "b": 4}


def test_a_ratio_is_the_median_over_rounds_not_the_ratio_of_medians():
    # The machine slows down by ten in the last rounds; each round still says "twice as slow".
    ours, peer = Samples((2.0, 20.0, 200.0)), Samples((1.0, 10.0, 100.0))
    assert ours.ratio(peer) == 2.0
    assert ours.beyond(peer) == 10.0
    assert (ours.median, ours.best) == (20.0, 2.0)


def test_a_result_survives_json_and_shows_in_the_table():
    result = Result(
        case="ops", what="mul", contender="gradient", value=1234.5, unit="us",
        peer="torch eager", ratio=0.5, roofline=0.25, bound="10 GB/s", target="<= 1 us", met=False,
    )  # fmt: skip
    assert Result.from_json(result.json()) == result
    heading, _, row = table([result]).splitlines()
    assert heading.split() == [
        "case", "what", "contender", "median", "best", "ratio", "roofline", "target",
    ]  # fmt: skip
    assert row.split("  ")[-1].strip() == "<= 1 us MISSED"
    assert "1,234 us" in row
    assert "0.50 x torch eager" in row
    assert "25% of 10 GB/s" in row


def test_the_chart_takes_the_last_of_our_figures_beside_llama_cpp(tmp_path):
    ours = Result(
        "llama.cpp", "q4_0: decode", "gradient", 20.0, "tokens/s", peer="llama.cpp", ratio=1.5
    )
    peer = Result("llama.cpp", "q4_0: decode", "llama.cpp", 13.0, "tokens/s")
    file = tmp_path / "results.jsonl"
    lines = [dataclasses.replace(ours, ratio=9.0), peer, ours]
    file.write_text("\n".join(line.json() for line in lines))
    found = chart.ratios(file)
    assert found == {"q4_0: decode": ours}
    assert chart.table(found).splitlines()[-1] == "| q4_0: decode | 20 | 1.50 |"
    pytest.importorskip("matplotlib")
    chart.draw(found, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes()[1:4] == b"PNG"


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch):
    """The stand-in for one: `support.fake_device`."""
    monkeypatch.setattr(driver, "device_count", lambda: 1)
    with fake_device.as_cuda():
        yield


def test_rounds_end_when_their_time_is_over():
    calls = []
    samples = interleave({"a": lambda: calls.append(1)}, rounds=5, within=0.0)
    assert len(samples["a"].seconds) == len(calls) == 1
    assert len(interleave({"a": lambda: None}, rounds=5, within=60.0)["a"].seconds) == 5


def test_a_case_that_does_not_come_back_is_ended(monkeypatch):
    """What it told before stands."""
    result = Result(case="import", what="x", contender="gradient", value=1.0, unit="us")
    program = f"print({result.json()!r}, flush=True); import time; time.sleep(600)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", program], **options)
    )
    monkeypatch.setitem(CASES, "import", dataclasses.replace(CASES["import"], seconds=2.0))
    found = []
    with pytest.raises(RuntimeError, match="case 'import' was ended after 2 s"):
        found.extend(measure("import", Options(threads=1)))
    assert found == [result]


def test_what_is_left_when_the_time_is_over_is_named(a_gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "QUICK", gpu.Limits(1, -1, -1, -1))
    options = Options(threads=1, quick=True, tiny=True, peers=False)
    assert [result.what for result in gpu.run(options)] == ["copy"]
    said = capsys.readouterr().err
    for what in ("gradient's training step", "decoding q4_0", "matmul 64", "AdamW, GPT-2"):
        assert what in said


def test_a_kernel_that_is_slow_says_that_it_had_fewer_rounds(a_gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "QUICK", gpu.QUICK._replace(case=0.0))
    options = Options(threads=1, quick=True, peers=False)
    [result] = gpu.kernel(next(gpu.cases(1 / 64)), {"gradient": gradient}, "cuda", options, 0.0)
    assert result.samples == 1
    assert "gpu: copy: 1 of 3 rounds, for want of time" in capsys.readouterr().err


def on_gpu(only: str) -> list[Result]:
    options = Options(threads=1, quick=True, tiny=True, peers=False, only=only)
    found = list(gpu.run(options))
    assert [(r.what, r.contender) for r in found[:1]] == [("copy", "gradient")]
    for result in found:
        assert result.case == "gpu" and Result.from_json(result.json()) == result
    return found[1:]


def test_a_case_that_fails_is_named_and_the_others_run(a_gpu, monkeypatch, capsys):
    def broken(name):
        def prepare(library, place):
            raise ValueError

        return prepare if name == "gelu" else function_of(name)

    function_of, cases = gpu.function_of, gpu.cases
    monkeypatch.setattr(gpu, "function_of", broken)
    options = Options(threads=1, quick=True, tiny=True, peers=False, only="float32")
    monkeypatch.setattr(gpu, "cases", lambda scale: itertools.islice(cases(scale), 15))
    found = []
    with pytest.raises(RuntimeError, match=r"gpu: 1 failed: gelu float32 \(ValueError: \)"):
        found.extend(result.what for result in gpu.run(options))
    assert "exp float32" in found and "silu float32" in found and "gelu float32" not in found
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", range(sum(1 for _ in gpu.cases(1 / 64))))
def test_every_kernel_that_is_measured_runs_to_its_end(number, a_gpu, monkeypatch):
    """Here, so that it costs no time of a GPU's to find out that one does not."""
    monkeypatch.setattr(gpu, "QUICK", gpu.QUICK._replace(case=0.0))
    measured = next(itertools.islice(gpu.cases(1 / 64), number, None))
    options = Options(threads=1, quick=True, tiny=True, peers=False)
    found = list(gpu.kernel(measured, {"gradient": gradient}, "cuda", options, 1e9))
    by_cublas = ["cuBLAS"] * (measured.by_cublas is not None)
    with_tf32 = ["gradient with TF32"] * (measured.told is not None)
    assert [result.contender for result in found] == ["gradient", *by_cublas, *with_tf32]
    for result in found:
        assert Result.from_json(result.json()) == result and table([result])


@pytest.mark.slow
def test_cases_of_full_size_are_those_of_small_ones():
    full, small = (list(gpu.cases(scale)) for scale in (1.0, 1 / 64))
    assert len(full) == len(small) == len({each.what for each in full})
    for a, b in zip(full, small, strict=True):
        assert (a.of_copy, a.of_peer, a.only_here) == (b.of_copy, b.of_peer, b.only_here)
        assert (a.bytes >= b.bytes > 0) or (a.operations >= b.operations > 0)


def test_products_on_a_gpu_are_held_to_cublas(a_gpu):
    found = on_gpu("matmul 64")
    assert [(r.what, r.contender) for r in found] == [
        (f"matmul 64 x 64 x 64 {dtype}", contender)
        for dtype in ("float32", "bfloat16")
        for contender in ("gradient", "cuBLAS")
    ]
    for ours, theirs in zip(found[::2], found[1::2], strict=True):
        assert ours.peer == "cuBLAS" and ours.ratio is not None
        assert ours.target == "at least 95% of cuBLAS's speed"
        assert ours.met is (ours.ratio <= 1 / 0.95)
        assert theirs.target is None and theirs.ratio is None


def test_elementwise_calls_on_a_gpu_are_held_to_a_copy(a_gpu):
    for result in on_gpu("relu"):
        assert result.roofline is not None and result.bound.startswith("a copy's")
        assert result.target == "at least 80% of a copy's bandwidth"
        assert result.met is (result.roofline >= 0.8)


def test_models_on_a_gpu_are_measured(a_gpu):
    step, memory, compiled = on_gpu("training step")
    assert step.what == "training step bfloat16, GPT, 2 x 16" == compiled.what
    assert memory.what == "memory of a training step, GPT, 2 x 16"
    assert [r.contender for r in (step, memory, compiled)] == [
        "gradient", "gradient", "gradient compile",
    ]  # fmt: skip
    assert (memory.value, memory.unit) == (1.0, "MiB")
    assert "tokens/s" in step.note and "tokens/s" in compiled.note
    floats, packed, *_ = on_gpu("decoding")  # and kernels over pages
    assert (floats.target, packed.target) == (
        "at least 60% of the bound", "at least 45% of the bound",
    )  # fmt: skip
    for result in (floats, packed):
        assert result.unit == "ms/token" and isinstance(result.met, bool)


@pytest.mark.parametrize(
    ("rate", "bound"), [(1e3, "cuBLAS's 0 Tflop/s"), (1e30, "a copy's 1 GB/s")]
)
def test_a_convolution_is_limited_by_its_operations_or_its_bytes(rate, bound, a_gpu):
    options, asked = Options(threads=1, tiny=True, peers=False), []

    def rate_of(dtype):
        asked.append(dtype)
        return rate

    measured = next(each for each in gpu.cases(1 / 64) if each.what.startswith("convolution"))
    found = gpu.kernel(measured, {"gradient": gradient}, "cuda", options, 1e9, rate_of)
    ours, with_tf32 = found
    assert (ours.contender, with_tf32.contender) == ("gradient", "gradient with TF32")
    assert asked == ["float32", "TF32"]
    for result in (ours, with_tf32):
        needed = measured.operations / rate if rate == 1e3 else measured.bytes / 1e9
        assert result.bound == bound
        assert result.roofline == pytest.approx(needed / (result.value / 1e6))


def test_convolutional_networks_on_a_gpu_are_measured(a_gpu):
    found = on_gpu("step of convolutions")
    assert [(r.what.split()[-1], r.contender) for r in found] == [
        *(("bfloat16", name) for name in ("gradient", "gradient compile")),
        *(("float32", name) for name in ("gradient", "gradient compile", "gradient with TF32")),
    ]
    for result in found:
        assert result.unit == "ms" and "images/s" in result.note and result.roofline > 0
        assert result.bound.startswith(("a copy's", "cuBLAS's"))
    assert gradient.get_float32_matmul_precision() == "highest"


@pytest.mark.slow
def test_models_have_the_same_inputs_at_each_call():
    for model in (*training_models.MODELS, *further_models.MODELS):
        if not model.large:
            first, second = (model.build(gradient)[2] for _ in range(2))
            for x, y in zip(first, second, strict=True):
                np.testing.assert_array_equal(x, y, err_msg=model.name)


def test_operations_and_numbers_of_convolutions_are_counted():
    """(1 x 3 x 32 x 32) by 3 x 3 to 16 channels, of which the input needs no gradient."""
    with gradient.device("meta"):
        model, *_ = training_models.resnet(gradient, images=1, widths=(16,))
        needed = gpu_convolutions.needed_by(gradient, model, gradient.empty(1, 3, 32, 32))
    first, others = 16 * 27 * 1024, 4 * 16 * 144 * 1024
    assert needed.operations == 2 * (2 * first + 3 * others)
    plane, small = 16 * 1024, 3 * 1024
    assert needed.numbers == 2 * (small + 432 + plane) + 3 * 4 * (2 * plane + 16 * 144)


def test_after_its_time_nothing_more_is_begun(a_gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "QUICK", gpu.QUICK._replace(whole=-1))
    assert on_gpu("softmax") == []
    assert "no time was left for softmax float32, softmax bfloat16" in capsys.readouterr().err


def test_a_gpu_is_told_with_its_driver(monkeypatch, tmp_path):
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\n")
    assert machine.driver_version(file) == "550.54.15"
    assert machine.driver_version(tmp_path / "absent") is None
    monkeypatch.setattr(machine, "DRIVER", file)
    for name, value in (
        ("cuda_version", 12040),
        ("device_name", "H100"),
        ("architecture", "sm_90"),
    ):
        monkeypatch.setattr(driver, name, lambda *_, value=value: value)
    described = machine.describe()
    assert described["gpu"] == {
        "name": "H100", "architecture": "sm_90", "driver": "550.54.15", "cuda": "12.4",
    }  # fmt: skip
    assert described["date"][:2] == "20" and described["commit"]
    chosen = argparse.Namespace(cases=["gpu"], tiny=False)
    path = default_file(chosen, {**described, "date": "2026-11-24 20:00"})
    assert path == CHECKOUT / "bench" / "results" / "2026-11-24-gpu.jsonl"
    for others in ({"cases": ["ops"]}, {"tiny": True}):
        assert default_file(argparse.Namespace(**{**vars(chosen), **others}), described) is None
    assert default_file(chosen, {"date": "2026-11-24 20:00"}) is None


def test_a_kernel_of_a_step_counts_from_its_predecessors_end():
    """Kernels of a graph overlap; those of the prompt are in both texts."""
    work = [("prompt", "kernel", 0, 50)]
    for at in range(50, 450, 100):
        work += [
            ("product", "kernel", at - 5, 35),
            ("argmax", "kernel", at + 28, 12),
            ("Memcpy DtoD", "gpu_memcpy", at + 42, 3),
        ]
    work.append(("generate", "user_annotation", 0, 1000))
    names = "name", "cat", "ts", "dur"
    events = [{"name": "process_name"}, *(dict(zip(names, each, strict=True)) for each in work)]
    trace = json.dumps({"traceEvents": events})
    few, many = gpu_step.read_trace(trace)[:7], gpu_step.read_trace(trace)
    assert len(many) == 13
    found = list(gpu_step.results("q4_0", gpu_step.times_of(few), gpu_step.times_of(many), 2))
    assert [(result.what, result.value) for result in found] == [
        ("q4_0: a step", 100.0), ("q4_0: product", 85.0), ("q4_0: argmax", 10.0),
        ("q4_0: Memcpy DtoD", 5.0),
    ]  # fmt: skip
    assert found[0].note == "3 kernels" and found[2].note == "1 a step, 10.00 us each"


def test_kernels_of_a_step_need_a_gpu_and_pytorch(capsys):
    assert list(gpu_step.run(Options(threads=1, peers=False))) == []
    assert "gpu-step: needs a CUDA device and PyTorch with CUDA" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"gpu-step"}))  # needs PyTorch on a GPU
def test_every_case_runs_without_peers(case, tmp_path):
    file = tmp_path / "results.jsonl"
    options = ["--tiny", "--no-peers", "--threads", "1", "--json", str(file)]
    if case == "gpu-host":
        pytest.importorskip("cupy")
    if case == "gpu":  # all that it measures runs in this process above
        options += ["--only", "softmax"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", case, *options],
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    # 1 is a missed target too: on a busy machine that is no fault of the benchmark.
    assert done.returncode in (0, 1), done.stderr
    machine, *results = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert machine["kind"] == "machine"
    assert "numpy" in machine["packages"]
    assert {result["kind"] for result in results} == {"result"}
    assert {result["case"] for result in results} == {case}
    contenders = {result["contender"] for result in results}
    assert contenders & {"gradient", "numpy-plugin"}  # by a plugin, of `plugin`
    assert not contenders & {"torch", "torch eager", "torch compile", "transformers"}


def test_an_unknown_case_is_refused_by_name():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"unknown case speed; known: {', '.join(CASES)}" in done.stderr
