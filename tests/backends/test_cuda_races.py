"""Races between a kernel's threads are found (`cuda_emulator/races.h`), and only races.

`pytest --races tests/backends` looks for them in the kernels themselves.
"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from support import cuda_emulation
from support.cuda_emulation import ORDERS, launch, library

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

KERNELS = """
#include "tensor_cores.cuh"

extern "C" __global__ void reversed(const float* x, float* out, long long barrier) {
    __shared__ float held[64];
    held[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncthreads(); else __syncwarp();
    out[threadIdx.x] = held[63 - threadIdx.x];
}
extern "C" __global__ void neighbours(const float* x, float* out, long long barrier) {
    __shared__ float held[64];
    held[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncwarp(); else __shfl_xor_sync(~0u, 0, 1);
    out[threadIdx.x] = held[threadIdx.x ^ 1];
}
extern "C" __global__ void written_again(const float* x, float* out, long long barrier) {
    extern __shared__ float held[];
    held[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    const float other = held[63 - threadIdx.x];
    if (barrier) __syncthreads();
    held[threadIdx.x] = other;
    __syncthreads();
    out[threadIdx.x] = held[threadIdx.x];
}
extern "C" __global__ void read_twice(const float* x, float* out, long long barrier) {
    __shared__ float held;
    if (threadIdx.x == 0) held = x[0];
    __syncthreads();
    float sum = held;  // of all threads, then of one warp's once more
    if (threadIdx.x < 32) {
        __syncwarp();
        sum += held;
    }
    if (barrier) __syncthreads();
    if (threadIdx.x == 0) held = sum;
    out[threadIdx.x] = sum;
}
extern "C" __global__ void copied(const float* x, float* out, long long barrier) {
    __shared__ float4 aligned[16];
    float* held = &aligned[0].x;
    held[threadIdx.x] = 1;
    __syncthreads();
    float sum = held[63 - threadIdx.x];
    if (barrier) __syncthreads();
    if (threadIdx.x % 4 == 0) cp_async(held + threadIdx.x, x + threadIdx.x);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = sum + held[63 - threadIdx.x];
}
extern "C" __global__ void counted(const float* x, float* out, long long barrier) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);
    if (barrier) __syncthreads();
    out[threadIdx.x] = count;
}
extern "C" __global__ void unwritten(const float* x, float* out, long long written) {
    __shared__ float held[64];
    if (threadIdx.x || written) held[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = held[threadIdx.x];
}
extern "C" __global__ void of_blocks(const float* x, float* out, long long apart) {
    out[threadIdx.x + (apart ? blockIdx.x * 64 : 0)] = x[threadIdx.x];
}
extern "C" __global__ void handed_on(const float* x, float* out, long long apart) {
    if (blockIdx.x == 0) out[threadIdx.x] = x[threadIdx.x];
    if (blockIdx.x == 1) out[64 + threadIdx.x] = apart ? x[threadIdx.x] : out[threadIdx.x];
}
extern "C" __global__ void largest(const float* x, int* out, long long is_atomic) {
    if (is_atomic) atomicMax(&out[0], int(blockIdx.x));
    else if (threadIdx.x == 0) out[0] = max(out[0], int(blockIdx.x));
}
"""


@pytest.fixture(autouse=True)
def finds_races(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_emulation, "finds_races", True)


@pytest.fixture
def kernels() -> Iterator[ctypes.CDLL]:
    return library("races", KERNELS)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kernel", "blocks", "fault"),
    [
        ("reversed", 1, "of static shared memory"),
        ("neighbours", 1, "of static shared memory"),
        ("written_again", 1, "at byte .* of dynamic shared memory"),
        ("read_twice", 1, "a race"),
        ("copied", 1, "a race"),
        ("counted", 1, "a race"),
        ("unwritten", 1, "which no thread of the block had written"),
        ("of_blocks", 2, "a race: .* of block 1 writes after .* of block 0"),
        ("handed_on", 2, "a race: .* of block 1 reads what was written by"),
        ("largest", 2, "a race: .* of block 1 reads what was written by"),
    ],
)
def test_a_race_is_found(
    kernels: ctypes.CDLL, kernel: str, blocks: int, fault: str, order: int
) -> None:
    """In each order of the warps; and none is found where threads wait for one another."""
    x = np.arange(64, dtype=np.float32)
    out = np.zeros(128, np.int32 if kernel == "largest" else np.float32)
    launch(kernels, kernel, (blocks,), 64, x, out, 1, shared=256, order=order)
    with pytest.raises(RuntimeError, match=f"{kernel} (has|reads) .*{fault}"):
        launch(kernels, kernel, (blocks,), 64, x, out, 0, shared=256, order=order)
    launch(
        kernels, kernel, (blocks,), 64, x, out, 1, shared=256, order=order
    )  # nothing is left of it
