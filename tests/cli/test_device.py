"""`--device auto`, and `--device cuda` on a stand-in for a GPU (`support.fake_device`)."""

from __future__ import annotations

import json
import shutil
import sys
import types
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gradient.backends.cuda import driver
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.cli.app import app
from gradient.errors import DeviceError
from support import fake_device

pytestmark = pytest.mark.cpu_only

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


@pytest.mark.parametrize(
    ("machine", "why"),
    [
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


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels")
def test_auto_is_the_gpu_where_one_can_be_used() -> None:
    expected = json.loads(run(*PROMPT).stdout)["text"]
    with fake_device.as_cuda():
        result = run(*PROMPT, "--device", "auto")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("device auto: cuda:0")
    assert json.loads(result.stdout)["text"] == expected
