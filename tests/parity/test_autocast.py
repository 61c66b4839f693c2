"""autocast gives each call of a table the dtype that PyTorch's gives it, on a GPU and on the CPU.

No GPU is needed: PyTorch's fake tensors on a device "cuda" go through its autocast for GPUs, and
compute nothing; ours are of the CUDA backend on `fake_cupy`.
"""

from __future__ import annotations

import importlib
import shutil
from typing import Any

import pytest

import gradient
from support.autocast_table import CPU_ROWS, ROWS, Row
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.parity,
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

WIDER_ON_CPU = {
    *("softmax", "log_softmax", "softmin", "layer_norm", "layer_norm[weight]", "rms_norm"),
    *("gumbel_softmax", "gumbel_softmax[hard]"),
}
"""In float32 here on the CPU as on a GPU: their results go into sums."""

ON_A_REAL_GPU = {"grid_sample": "float32"}
"""What PyTorch documents of calls that fake tensors do not take."""


class Draw:
    def __init__(self, lib: Any, device: str, dtype: Any):
        self.lib, self.device, self.dtype = lib, device, dtype

    def __call__(self, *shape: int) -> Any:
        return self.lib.full(shape, 0.5, device=self.device).to(self.dtype)

    @property
    def wide(self) -> Draw:
        return Draw(self.lib, self.device, self.lib.float32)

    def index(self, *shape: int) -> Any:
        return self.lib.zeros(shape, dtype=self.lib.int64, device=self.device)


def ours(row: Row, device: str, dtype: str) -> str:
    own = getattr(gradient, dtype)
    with gradient.amp.autocast(device, dtype=own):
        return name_of(row(gradient, Draw(gradient, device, own)))


def name_of(t: Any) -> str:
    return str(t.dtype).rpartition(".")[2]


@pytest.mark.parametrize("row", ROWS)
def test_on_a_gpu(row: str) -> None:
    torch = importlib.import_module("torch")
    fake = importlib.import_module("torch._subclasses.fake_tensor")
    torch.set_autocast_dtype("cuda", torch.float16)
    with fake.FakeTensorMode():
        draw = Draw(torch, "cuda", torch.float16)
        torch.set_autocast_enabled("cuda", True)
        try:
            expected = ON_A_REAL_GPU.get(row) or name_of(ROWS[row](torch, draw))
        finally:
            torch.set_autocast_enabled("cuda", False)
    assert ours(ROWS[row], DEVICE, "float16") == expected


@pytest.mark.filterwarnings("ignore:torch.(cholesky|qr|lu|triangular_solve) is deprecated")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("row", [*ROWS, *CPU_ROWS])
def test_on_the_cpu(row: str) -> None:
    call = ROWS.get(row) or CPU_ROWS[row]
    torch = importlib.import_module("torch")
    with torch.autocast("cpu", torch.bfloat16):
        try:
            expected = name_of(call(torch, Draw(torch, "cpu", torch.bfloat16)))
        except RuntimeError:
            return  # it takes no inputs of two dtypes, or none of 16 bits
    got = ours(call, "cpu", "bfloat16")
    if row in WIDER_ON_CPU:
        assert (got, expected) == ("float32", "bfloat16")
    else:
        assert got == expected
