"""The device "fakecuda": the CUDA backend with `fake_cupy`'s arrays and kernels on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gradient import backends
from gradient.backends import registry
from gradient.backends.cuda.backend import CudaBackend
from support.cuda_emulation import FakeRuntime

DEVICE = "fakecuda"


def fake_backend(index: int) -> CudaBackend:
    backend = CudaBackend(index, FakeRuntime())
    backend.device = DEVICE
    return backend


backends.register(DEVICE, fake_backend)


@contextlib.contextmanager
def as_cuda() -> Iterator[None]:
    """A block in which it is the device "cuda" as well."""

    def make(index: int) -> CudaBackend:
        return CudaBackend(index, FakeRuntime())

    before = registry._factories["cuda"]
    backends.register("cuda", make)
    try:
        yield
    finally:
        backends.register("cuda", before)
