"""What warpgroups' tensor cores do, run on the CPU: plain products; and what a GPU would not do is
told."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from gradient.dtypes import bfloat16
from support import cuda_emulation
from support.cuda_emulation import ORDERS

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

SOURCE = r"""
#include <warpgroups.cuh>
struct alignas(1024) Atom { char bytes[1024]; };

// rows (count, 64) of an array `apart` wide as a panel: pieces of 16 bytes exchanged as the PTX ISA
// has it.
template <class T> __device__ void put_panel(T* panel, const T* from, int count, int apart) {
    for (int i = threadIdx.x; i < count * 64; i += 128) {
        const int row = i / 64, column = i % 64;
        panel[row * 64 + (column / 8 ^ row % 8) * 8 + column % 8] = from[row * apart + column];
    }
}

// both[0] (64, N) = a (64, 64) b^T, b (N, 64); both[1] = 1 + a c, a in registers, c (64, N).
template <class T, int N>
__device__ void products(const T* a, const T* b, const T* c, float* both, Int waits) {
    extern __shared__ Atom memory[];
    T *of_a = reinterpret_cast<T*>(memory), *of_b = of_a + 64 * 64, *of_c = of_b + N * 64;
    put_panel(of_a, a, 64, 64);
    put_panel(of_b, b, N, 64);
    for (int i = 0; i < N / 64; i++) put_panel(of_c + i * 64 * 64, c + i * 64, 64, N);
    fence_shared();
    __syncthreads();
    float straight[N / 8][4], held[N / 8][4];
    const int row = threadIdx.x / 4 % 8 + threadIdx.x / 32 * 16, column = threadIdx.x % 4 * 2;
    for (int n = 0; n < N / 8; n++)
        for (int i = 0; i < 4; i++) straight[n][i] = 7, held[n][i] = 1;
    warpgroup_begin();
    for (int k = 0; k < 4; k++)
        wgmma<T>(straight, Panels(of_a).after(32 * k), Panels(of_b).after(32 * k), k > 0);
    warpgroup_commit();
    for (int k = 0; k < 4; k++) {
        unsigned registers[4];
        for (int i = 0; i < 4; i++) {
            const T* at = a + (row + i % 2 * 8) * 64 + 16 * k + column + i / 2 * 8;
            registers[i] = two<T>(float(at[0]), float(at[1]));
        }
        wgmma_held<T>(held, registers, Panels(of_c, 64 * 128).after(2048 * k));
    }
    warpgroup_commit();
    if (waits == 1) warpgroup_wait<1>();
    if (waits == 2) warpgroup_wait<0>();
    arrived(straight);
    arrived(held);
    for (int n = 0; n < N / 8; n++)
        for (int i = 0; i < 4; i++) {
            const int at = (row + i / 2 * 8) * N + 8 * n + column + i % 2;
            both[at] = straight[n][i], both[64 * N + at] = held[n][i];
        }
}
#define OF(N, NAME, T)                                                                    \
    extern "C" __global__ void of_##N##_##NAME(const T* a, const T* b, const T* c, float* both, \
                                               Int waits) {                               \
        products<T, N>(a, b, c, both, waits);                                             \
    }
#define EXPORT(NAME, T) OF(64, NAME, T) OF(128, NAME, T)
FOR_EACH_HALF(EXPORT)

// What is copied in the background, and whether it is fenced; and a panel that begins too late.
extern "C" __global__ void copied(const __half* a, float* out, Int fences, Int offset) {
    extern __shared__ Atom memory[];
    __half* panel = reinterpret_cast<__half*>(memory);
    for (int i = threadIdx.x; i < 64 * 8; i += blockDim.x) cp_async(panel + 8 * i, a + 8 * i);
    cp_async_commit();
    cp_async_wait<0>();
    if (fences) fence_shared();
    __syncthreads();
    float d[8][4];
    wgmma<__half>(d, Panels(panel + offset), Panels(panel), false);
    warpgroup_commit();
    warpgroup_wait<0>();
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++) out[(threadIdx.x * 8 + n) * 4 + i] = d[n][i];
}
"""
DTYPES = {"float16": np.dtype(np.float16), "bfloat16": bfloat16.numpy}


def products(dtype: str, columns: int, waits: int, order: int = 0) -> list[tuple[Any, Any]]:
    """What two products give and what they should, of numbers that are multiplied exactly."""
    rng = np.random.default_rng(1)
    a, b, c = (
        rng.integers(-8, 9, shape).astype(np.float32)
        for shape in ((64, 64), (columns, 64), (64, columns))
    )
    given = [x.astype(DTYPES[dtype]) for x in (a, b, c)]
    both = np.zeros((2, 64, columns), np.float32)
    cuda_emulation.launch(
        cuda_emulation.library("warpgroups", SOURCE), f"of_{columns}_{dtype}", (1,), 128,
        *given, both, np.int64(waits), shared=2 * 64 * (64 + 2 * columns), order=order,
    )  # fmt: skip
    return [(both[0], a @ b.T), (both[1], 1 + a @ c)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products(dtype: str, columns: int, order: int) -> None:
    for got, expected in products(dtype, columns, 2, order):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("waits", "right"), [(0, [False, False]), (1, [True, False])])
def test_what_is_not_waited_for_is_not_there(waits: int, right: list[bool]) -> None:
    """In falling order of the warps it is; here at the wait and not before."""
    for order in (0, 2):
        both = products("float16", 64, waits, order)
        assert [np.array_equal(got, expected) for got, expected in both] == right


def copied(threads: int, fences: int, offset: int) -> None:
    a, out = np.ones((64, 64), np.float16), np.zeros((128, 32), np.float32)
    cuda_emulation.launch(
        cuda_emulation.library("warpgroups", SOURCE), "copied", (1,), threads,
        a, out, np.int64(fences), np.int64(offset), shared=1 << 14,
    )  # fmt: skip
    np.testing.assert_array_equal(out, 16)


def test_what_a_gpu_would_not_do_is_reported() -> None:
    copied(128, 1, 0)
    with pytest.raises(RuntimeError, match="before a fence_shared"):
        copied(128, 0, 0)
    with pytest.raises(RuntimeError, match="begin at a multiple of 1024"):
        copied(128, 1, 64)
    with pytest.raises(RuntimeError, match="not of warpgroups"):
        copied(64, 1, 0)
