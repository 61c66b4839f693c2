"""`--device auto`, and `--device cuda` on a stand-in for a GPU (`support.fake_device`)."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gradient.backends.cuda import driver
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.cli.app import app
from gradient.errors import DeviceError
from support import fake_device

NANO = shlex.split(
    "--n-layer 1 --n-head 2 --n-embd 32 --block-size 64 --batch-size 2 --vocab-size 257 --steps 4 "
    "--eval-every 2 --eval-batches 1 --log-every 2 --sample-tokens 2 --no-tensorboard --lr 0.01"
)
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels")
PROMPT = ("generate", "Once", "--offline", "-n", "2", "-t", "0", "--json")


def run(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "device_count", lambda: 0)


@pytest.fixture
def a_gpu_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "cupy", None)


@pytest.fixture
def an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class CUDARuntimeError(RuntimeError):
        pass

    def is_available() -> bool:
        raise CUDARuntimeError("cudaErrorInsufficientDriver")

    cupy: Any = types.ModuleType("cupy")
    cupy.is_available, cupy.__version__ = is_available, "14.2"
    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError)
    )
    monkeypatch.setattr(driver, "device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)


@pytest.fixture
def a_gpu_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    class CUDARuntimeError(RuntimeError):
        pass

    def make_context() -> None:
        raise CUDARuntimeError("cudaErrorDevicesUnavailable")

    cupy: Any = types.ModuleType("cupy")
    cupy.is_available = lambda: True
    cupy.cuda = types.SimpleNamespace(
        Device=contextlib.nullcontext,
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, memGetInfo=make_context
        ),
    )
    monkeypatch.setattr(driver, "device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ("a_gpu_of_another", "the GPU takes no more programs: cudaErrorDevicesUnavailable; nvidia"),
        ("no_gpu", "this machine has no NVIDIA GPU, or no driver for it"),
        ("an_old_driver", "CUDA does not start: cudaErrorInsufficientDriver; CuPy 14.2 may need"),
        ("a_gpu_without_cupy", "CuPy is not installed; pip install 'gradient-dl[cuda13]'"),
    ],
)
def test_auto_is_the_cpu_where_no_gpu_can_be_used(
    machine: str, why: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(machine)
    result = run(*PROMPT, "--device", "auto")
    assert result.exit_code == 0, result.output
    assert f"device auto: cpu, as cuda cannot be used: {why}" in result.stderr
    plain = run(*PROMPT)
    assert plain.stderr == ""
    assert json.loads(result.stdout)["text"] == json.loads(plain.stdout)["text"]
    with pytest.raises(DeviceError, match="device 'cuda:0': "):
        CupyRuntime(0)


@pytest.mark.cpu_only
@NEEDS_COMPILER
def test_auto_is_the_gpu_where_one_can_be_used() -> None:
    expected = json.loads(run(*PROMPT).stdout)["text"]
    with fake_device.as_cuda():
        result = run(*PROMPT, "--device", "auto")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("device auto: cuda:0")
    assert json.loads(result.stdout)["text"] == expected


def losses_and_texts(folder: Path, device: str) -> tuple[list[float], list[str]]:
    """What commands give that train a model on a device, go on with it there, and talk to it."""
    text = folder / "text.txt"
    text.write_text("the cat sat on the mat, and the dog on the log\n" * 40)
    out, place = folder / device.replace(":", "_"), ("--device", device)
    found = []
    for options in ((text, *NANO, *place), ("--resume", "--steps", 6)):
        result = run("train", *options, "--out", out, "--json")
        assert result.exit_code == 0, result.output
        found += [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["device"] for event in found if "device" in event} == {device}
    losses = [event["loss"] for event in found if "loss" in event]
    model = ("-m", out / "model", "-n", 3, "-t", 0, "--json", *place)
    texts = []
    for result in (
        run("generate", "the ", *model),
        run("generate", "the ", *model, "--dtype", "bf16"),
        run("chat", *model, given="the\n"),
    ):
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        texts.append(document.get("text", document.get("content")))
    return losses, texts


def test_a_model_is_trained_and_talked_to_on_a_device(tmp_path: Path, device: str) -> None:
    losses, texts = losses_and_texts(tmp_path, device)
    assert len(losses) >= 3 and losses[-1] < losses[0]
    assert all(isinstance(text, str) for text in texts)


@pytest.mark.cpu_only
@NEEDS_COMPILER
def test_a_gpu_gives_what_the_cpu_gives(tmp_path: Path) -> None:
    expected, texts = losses_and_texts(tmp_path, "cpu")
    with fake_device.as_cuda():
        losses, on_gpu = losses_and_texts(tmp_path, "cuda")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert on_gpu == texts
