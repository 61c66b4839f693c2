// What the gradients of attention need from each row of queries: one float4, for the kernels with
// tiles (flash_attention_grad.cu, warpgroup_attention_grad.cu, attention_float32_grad.cu).
//
//     high       the row's largest score
//     log_sum    the logarithm of its sum of e^(score - high), to base 2
//     delta      sum(g * out) (Dao 2023, "FlashAttention-2", algorithm 2, line 4)
//     0
//
// 8 lanes per row; each loads 16 bytes of g and of out at a time, adjacent to its neighbours'.
// Bytes: g and out are read once, 16 bytes per row are written.
#include "attention_tiles.cuh"

// g and out (B, H, T, E), of any strides; rows are whole packs of 16 bytes.
template <class T>
__device__ void row_statistics(const T* g, Int g_batch, Int g_head, Int g_row, const T* out,
                               Int out_batch, Int out_head, Int out_row, const float* high,
                               const float* log_sum, float4* statistics, Int heads, Int queries,
                               Int rows, Int width) {
    constexpr int N = 16 / sizeof(T);
    const int row = int(blockIdx.x) * (THREADS / 8) + threadIdx.x / 8, lane = threadIdx.x % 8;
    float delta = 0;
    if (row < rows) {
        const int head = row / int(queries), batch = head / int(heads);
        const int of_batch = head - batch * int(heads), query = row - head * int(queries);
        const T* of_g = g + batch * g_batch + of_batch * g_head + query * g_row;
        const T* of_out = out + batch * out_batch + of_batch * out_head + query * out_row;
        for (int c = N * lane; c < width; c += 8 * N) {
            const auto a = *reinterpret_cast<const Pack<T, N>*>(of_g + c);
            const auto b = *reinterpret_cast<const Pack<T, N>*>(of_out + c);
#pragma unroll
            for (int i = 0; i < N; i++) delta += float(a.values[i]) * float(b.values[i]);
        }
    }
#pragma unroll
    for (int distance = 4; distance > 0; distance /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, distance);
    if (row < rows && lane == 0) statistics[row] = make_float4(high[row], log_sum[row] * LOG2_E, delta, 0);
}

#define EXPORT(NAME, T)                                                                            \
    extern "C" __global__ void row_statistics_##NAME(                                              \
        const T* g, Int g_batch, Int g_head, Int g_row, const T* out, Int out_batch, Int out_head, \
        Int out_row, const float* high, const float* log_sum, float4* statistics, Int heads,       \
        Int queries, Int rows, Int width) {                                                        \
        row_statistics(g, g_batch, g_head, g_row, out, out_batch, out_head, out_row, high,         \
                       log_sum, statistics, heads, queries, rows, width);                          \
    }
FOR_FLOAT32(EXPORT)
FOR_EACH_HALF(EXPORT)
