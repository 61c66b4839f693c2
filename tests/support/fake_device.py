"""The device "fakecuda": the CUDA backend with `fake_cupy`'s arrays and kernels on the CPU."""

from __future__ import annotations

from gradient import backends
from gradient.backends.cuda.backend import CudaBackend
from support.cuda_emulation import FakeRuntime

DEVICE = "fakecuda"


def fake_backend(index: int) -> CudaBackend:
    backend = CudaBackend(index, FakeRuntime())
    backend.device = DEVICE
    return backend


backends.register(DEVICE, fake_backend)
