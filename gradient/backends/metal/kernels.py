"""Metal kernels for formats that MLX does not read: a row of x times the rows of a packed weight.

    y[m, n] = sum_k x[m, k] * weight[n, k]

They run only on a Mac, where `tests/backends/test_metal.py` compares them with the composed
definitions. One SIMD group of 32 threads computes one output: a thread takes 8 of a block's 256
weights. The weight's blocks are read once per row of x.
"""

from __future__ import annotations

import functools
from typing import Any

import mlx.core as mx

MOST_ROWS = 4
"""The most rows of x for the kernels; with more, it is faster to unpack weights once."""

HEADER = """
#include <metal_simdgroup>
using namespace metal;

inline float half_at(const device uint8_t* at) {
    return float(as_type<half>(ushort(ushort(at[0]) | ushort(at[1]) << 8)));
}
"""

LOOP = """
    uint lane = thread_position_in_threadgroup.x;
    uint n = threadgroup_position_in_grid.x * 8 + thread_position_in_threadgroup.y;
    uint row = threadgroup_position_in_grid.y;
    if (n >= N) return;
    float sum = 0.0f;
    for (uint b = 0; b < BLOCKS; ++b) {
        const device uint8_t* block = blocks + (n * BLOCKS + b) * BYTES;
        const device float* xs = x + (row * BLOCKS + b) * 256;
        TAKE
    }
    sum = simd_sum(sum);
    if (lane == 0) y[row * N + n] = sum;
"""

TAKE_Q4_K = """
        // Thread `lane` takes weights 8 lane to 8 lane + 7, all in sub-block lane / 4.
        uint j = lane / 4, i = (lane % 4) * 8;
        const device uint8_t* s = block + 4;
        uint scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        uint low = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
        float slope = half_at(block) * float(scale), offset = half_at(block + 2) * float(low);
        const device uint8_t* codes = block + 16 + (j / 2) * 32 + i;
        for (uint k = 0; k < 8; ++k) {
            uint code = j % 2 ? codes[k] >> 4 : codes[k] & 15;
            sum += xs[j * 32 + i + k] * (slope * float(code) - offset);
        }
"""

TAKE_Q6_K = """
        // Thread `lane` takes weights 8 lane to 8 lane + 7, half of sub-block lane / 2.
        uint w = lane * 8, part = w / 128, in = w % 128;
        const device uint8_t* qs = block + part * 64 + in % 64;
        const device uint8_t* qh = block + 128 + part * 32 + in % 32;
        int scale = int(as_type<int8_t>(block[192 + lane / 2]));
        float slope = half_at(block + 208) * float(scale);
        for (uint k = 0; k < 8; ++k) {
            uint low = in < 64 ? qs[k] & 15 : qs[k] >> 4;
            uint high = (qh[k] >> (2 * (in / 32))) & 3;
            sum += xs[w + k] * slope * float(int(low | high << 4) - 32);
        }
"""

SOURCES = {"q4_k": (144, TAKE_Q4_K), "q6_k": (210, TAKE_Q6_K)}
"""By format: the bytes of a block of 256 weights, and the code that adds its products."""


def available() -> bool:
    return mx.metal.is_available() and mx.default_device() == mx.gpu


@functools.cache
def _kernel(name: str) -> Any:
    size, take = SOURCES[name]
    source = LOOP.replace("BYTES", str(size)).replace("TAKE", take)
    return mx.fast.metal_kernel(
        name=f"gradient_{name}", input_names=["x", "blocks"], output_names=["y"],
        header=HEADER, source=source,
    )  # fmt: skip


def product(name: str, x: Any, blocks: Any) -> Any:
    """x (M, K) float32 @ W.T, for W in blocks (N, K / 256, bytes). The result is (M, N) float32."""
    m, n, count = x.shape[0], blocks.shape[0], blocks.shape[1]
    (y,) = _kernel(name)(
        inputs=[x, blocks.reshape(-1)],
        template=[("N", n), ("BLOCKS", count)],
        grid=(32 * -(-n // 8), 8 * m, 1),
        threadgroup=(32, 8, 1),
        output_shapes=[(m, n)],
        output_dtypes=[mx.float32],
    )
    return y
