"""What tensor cores do, run on the CPU: plain products; and what a GPU would not do is told."""

from __future__ import annotations

import shutil

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
#include <tensor_cores.cuh>

// out (16, 8) = a (16, 16) b (16, 8) with registers filled by the table of the PTX ISA.
template <class T> __device__ void by_table(const T* a, const T* b, float* out) {
    const int g = threadIdx.x / 4, c = threadIdx.x % 4 * 2;
    auto both = [](T first, T second) { return two<T>(float(first), float(second)); };
    unsigned of_a[4], of_b[2];
    for (int i = 0; i < 4; i++) {
        const T* at = a + (g + i % 2 * 8) * 16 + c + i / 2 * 8;
        of_a[i] = both(at[0], at[1]);
    }
    for (int i = 0; i < 2; i++)
        of_b[i] = both(b[(c + 8 * i) * 8 + g], b[(c + 8 * i + 1) * 8 + g]);
    float d[4] = {1, 1, 1, 1};
    mma_m16n8k16<T>(d, of_a, of_b);
    for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + c + i % 2] = d[i] - 1;
}

// out (16, 8) = a (16, 32) b (32, 8) of signed bytes, by the table of the PTX ISA.
extern "C" __global__ void by_table_int8(const signed char* a, const signed char* b, int* out) {
    const int g = threadIdx.x / 4, e = threadIdx.x % 4 * 4, c = threadIdx.x % 4 * 2;
    unsigned of_a[4] = {}, of_b[2] = {};
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < 4; i++)
            of_a[i] |= (a[(g + i % 2 * 8) * 32 + e + i / 2 * 16 + k] & 255u) << 8 * k;
        for (int i = 0; i < 2; i++) of_b[i] |= (b[(e + 16 * i + k) * 8 + g] & 255u) << 8 * k;
    }
    int d[4] = {1, 1, 1, 1};
    mma_m16n8k32(d, of_a, of_b);
    for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + c + i % 2] = d[i] - 1;
}

// The same with operands that ldmatrix reads: b as it lies, transposed; bt (8, 16) straight.
template <class T>
__device__ void by_ldmatrix(const T* a, const T* b, const T* bt, float* out, Int pitch,
                            Int pieces) {
    extern __shared__ double memory[];
    T* a_rows = reinterpret_cast<T*>(memory);
    T *b_rows = a_rows + 16 * pitch, *bt_rows = b_rows + 16 * 8;
    const int lane = threadIdx.x, g = lane / 4, c = lane % 4 * 2;
    cp_async(a_rows + lane / 2 * pitch + lane % 2 * 8, a + lane / 2 * 16 + lane % 2 * 8);
    cp_async_commit();
    cp_async(bt_rows + lane * 8, bt + lane % 16 * 8, lane < 16 ? 16 : 0);
    if (lane < 16) cp_async(b_rows + lane * 8, b + lane * 8);
    cp_async_commit();
    unsigned of_a[4], of_b[2], of_bt[2];
    cp_async_wait<1>();
    __syncwarp();
    ldmatrix(of_a, a_rows + lane % 16 * pitch + lane / 16 * 8);
    cp_async_wait<0>();
    __syncwarp();
    if (pieces == 1) {
        unsigned one[1];
        for (int i = 0; i < 2; i++) {
            ldmatrix_trans(one, b_rows + (lane % 8 + 8 * i) * 8), of_b[i] = one[0];
            ldmatrix(one, bt_rows + lane % 8 * 16 + 8 * i), of_bt[i] = one[0];
        }
    } else if (pieces == 2) {
        ldmatrix_trans(of_b, b_rows + lane % 16 * 8);
        ldmatrix(of_bt, bt_rows + lane % 8 * 16 + lane / 8 % 2 * 8);
    } else {
        unsigned four[4];
        ldmatrix_trans(four, b_rows + lane % 16 * 8), of_b[0] = four[0], of_b[1] = four[1];
        ldmatrix(four, bt_rows + lane % 8 * 16 + lane / 8 % 2 * 8);
        of_bt[0] = four[2], of_bt[1] = four[3];
    }
    float d[4] = {}, e[4] = {};
    mma_m16n8k16<T>(d, of_a, of_b);
    mma_m16n8k16<T>(e, of_a, of_bt);
    for (int i = 0; i < 4; i++) {
        const int at = (g + i / 2 * 8) * 8 + c + i % 2;
        out[at] = d[i], out[128 + at] = e[i];
    }
}

// out = x, two steps of 4 numbers a thread, whose places in shared memory another thread reads.
extern "C" __global__ void staged(const float* x, float* out, Int wait_and_barrier) {
    extern __shared__ float stage[];
    const int i = threadIdx.x, other = (i + 32) % blockDim.x;
    for (int step = 0; step < 2; step++) {
        cp_async(stage + 4 * i, x + (step * blockDim.x + i) * 4);
        cp_async_commit();
        if (wait_and_barrier & 1) cp_async_wait<0>();
        __syncthreads();
        for (int k = 0; k < 4; k++)
            out[(step * blockDim.x + other) * 4 + k] = stage[4 * other + k];
        if (wait_and_barrier & 2) __syncthreads();
    }
}

#define EXPORT(NAME, T)                                                                          \
    extern "C" __global__ void by_table_##NAME(const T* a, const T* b, float* out) {             \
        by_table(a, b, out);                                                                     \
    }                                                                                            \
    extern "C" __global__ void by_ldmatrix_##NAME(const T* a, const T* b, const T* bt, float* out, \
                                                  Int pitch, Int pieces) {                       \
        by_ldmatrix(a, b, bt, out, pitch, pieces);                                               \
    }
EXPORT(float16, __half)
EXPORT(bfloat16, __nv_bfloat16)
"""
NARROW = {"float16": np.dtype(np.float16), "bfloat16": bfloat16.numpy}


def run(name: str, *arguments: object, **launch: int) -> None:
    shared = launch.pop("shared", 4096)
    kernels = cuda_emulation.library("tensor_cores", SOURCE)
    given = [np.int64(a) if isinstance(a, int) else a for a in arguments]
    cuda_emulation.launch(kernels, name, (1,), launch.pop("block", 32), *given, shared=shared,
                          **launch)  # fmt: skip


def factors(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0).standard_normal
    a, b = (draw(shape).astype(NARROW[dtype]) for shape in ((16, 16), (16, 8)))
    return a, b, a.astype(np.float32) @ b.astype(np.float32)


def test_a_product_of_bytes() -> None:
    draw = np.random.default_rng(0).integers
    a, b = (draw(-128, 128, shape).astype(np.int8) for shape in ((16, 32), (32, 8)))
    for order in ORDERS:
        out = np.empty((16, 8), np.int32)
        run("by_table_int8", a, b, out, order=order)
        np.testing.assert_array_equal(out, a.astype(np.int32) @ b.astype(np.int32))


@pytest.mark.parametrize("dtype", NARROW)
def test_a_product_of_registers(dtype: str) -> None:
    a, b, expected = factors(dtype)
    for order in ORDERS:
        out = np.empty((16, 8), np.float32)
        run(f"by_table_{dtype}", a, b, out, order=order)
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("pieces", [1, 2, 4])
@pytest.mark.parametrize("dtype", NARROW)
def test_matrices_of_shared_memory(dtype: str, pieces: int) -> None:
    a, b, expected = factors(dtype)
    for order in ORDERS:
        out = np.empty((2, 16, 8), np.float32)
        run(f"by_ldmatrix_{dtype}", a, b, b.T.copy(), out, 24, pieces, order=order)
        for product in out:
            np.testing.assert_allclose(product, expected, atol=1e-5)


def test_rows_in_the_same_banks_are_counted() -> None:
    """Rows of 48 bytes lie in banks of their own; of those of 128 bytes all begin in the same."""
    a, b, _ = factors("float16")
    kernels = cuda_emulation.library("tensor_cores", SOURCE)
    counts = []
    for pitch in (24, 64):
        before = cuda_emulation.bank_conflicts(kernels)
        out = np.empty((2, 16, 8), np.float32)
        run("by_ldmatrix_float16", a, b, b.T.copy(), out, pitch, 2)
        counts.append(cuda_emulation.bank_conflicts(kernels) - before)
    of_bt = 2  # whose rows of 32 bytes lie two by two in the same banks
    assert counts == [of_bt, 4 + of_bt]


def test_rows_at_odd_places_are_reported() -> None:
    a, b, _ = factors("float16")
    out = np.empty((2, 16, 8), np.float32)
    with pytest.raises(RuntimeError, match="not aligned to 16 bytes"):
        run("by_ldmatrix_float16", a, b, b.T.copy(), out, 20, 2)


def test_a_part_of_a_warp_is_reported() -> None:
    a, b, _ = factors("float16")
    with pytest.raises(RuntimeError, match="runs mma in a warp of less than 32 threads"):
        run("by_table_float16", a, b, np.empty((16, 8), np.float32), block=16)


@pytest.mark.parametrize(("waits", "right"), [(3, True), (2, False), (1, False)])
def test_copies_in_the_background(waits: int, right: bool) -> None:
    """Right with a wait, and a barrier before the next copy; without one, wrong in some order."""
    x = np.random.default_rng(0).standard_normal(2 * 128 * 4).astype(np.float32)
    found = []
    for order in ORDERS:
        out = np.empty_like(x)
        run("staged", x, out, waits, block=128, order=order)
        found.append(np.array_equal(out, x))
    assert all(found) == right
