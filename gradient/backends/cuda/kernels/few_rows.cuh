// Products of a few rows with a matrix, whose weights a FORMAT of packed.cuh reads.
//
//     out[m, n] = sum_k x[m, k] * weight[n, k] (+ bias[n])
//
// x (count, columns) and out (count, outputs) are row-major, with at most BATCH rows. A block
// computes four rows of the matrix (two if BATCH is above 1). Its warps take steps of 256 columns
// in turn, so each element of x that is loaded serves all rows, and the loads of several rows are
// in flight at once. The warps' sums are added in a fixed order.
//
// Bytes: the matrix is read once, and x once per block, from the cache: 2 operations (an FMA) per
// 0.33 to 2 bytes. Instructions for a warp's step of 4 rows by 256 weights, times one row of
// bfloat16, as compiled for sm_90 (a tenth to a fifth of them handle unaligned rows):
//
//     Q8_0 236   int8 348   Q4_0 280   IQ4_NL 282   NF4 302   MXFP4 340   int4 373   Q4_K 482   Q6_K 569
//
// An H100's multiprocessor issues four per cycle, in which memory delivers about 15 bytes. So Q8_0,
// 1088 bytes per step, is bound by memory; 70 to 85 % of its bandwidth is expected (not measured)
// with many blocks, as for 4,096 rows and more. The 4-bit formats, 544 to 640 bytes, are bound by
// instructions, at 30 to 70 %.
#pragma once
#include "packed.cuh"

constexpr int WARPS = 4;
template <int BATCH> constexpr int ROWS = BATCH == 1 ? 4 : 2;  // of the matrix, per block

__device__ inline const float* shared_table(const float* table) {
    __shared__ float held[16];
    if (!table) return nullptr;
    if (threadIdx.x < 16) held[threadIdx.x] = table[threadIdx.x];
    __syncthreads();
    return held;
}

template <class FORMAT, int BATCH, class T>
__device__ void product(const T* x, Packed w, const T* bias, T* out, Int outputs, int count) {
    typedef computed<T> A;
    constexpr int SCALES = sizeof(A) == 8 ? 0 : FORMAT::SCALES;  // float64: weights are scaled in float32 first
    __shared__ A of_warp[WARPS][ROWS<BATCH>][BATCH];
    w.table = shared_table(w.table);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const Int row = Int(blockIdx.x) * ROWS<BATCH>;
    A sums[ROWS<BATCH>][BATCH] = {};
    const int steps = int((w.columns + 255) / 256);
    for (int step = warp; step < steps; step += warps) {
        const Int first = step * 256 + FORMAT::first(lane), second = step * 256 + FORMAT::second(lane);
        if (first >= w.columns) continue;
        typename ValueOf<FORMAT>::type values[ROWS<BATCH>][8];
        Scales scales[ROWS<BATCH>];
#pragma unroll
        for (int r = 0; r < ROWS<BATCH>; r++) {  // past the end, the last row is read again
            FORMAT::load(w, row + r < outputs ? row + r : outputs - 1, step, lane, values[r], scales[r]);
            if constexpr (FORMAT::SCALES != SCALES)
#pragma unroll
                for (int i = 0; i < 8; i++) values[r][i] *= scales[r].four[i / 4];
        }
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            if (b >= count) break;
            A of_x[8];
            const T* of_row = x + b * w.columns;
            if (FORMAT::second(0) == FORMAT::first(0) + 4) {  // known at compile time
                load_eight(of_row, first, w.columns, of_x);
            } else {
                load_four(of_row, first, w.columns, of_x);
                load_four(of_row, second, w.columns, of_x + 4);
            }
#pragma unroll
            for (int r = 0; r < ROWS<BATCH>; r++) {
                constexpr int TOGETHER = SCALES == 2 ? 4 : 8;
#pragma unroll
                for (int first = 0; first < 8; first += TOGETHER) {
                    A sum = SCALES ? A(0) : sums[r][b];
#pragma unroll
                    for (int i = first; i < first + TOGETHER; i++) sum += of_x[i] * A(values[r][i]);
                    sums[r][b] = SCALES ? sums[r][b] + sum * A(scales[r].four[first / 4]) : sum;
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS<BATCH>; r++)
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            A sum = sums[r][b];
            for (int distance = 16; distance > 0; distance /= 2)
                sum += __shfl_xor_sync(0xffffffffu, sum, distance);
            if (lane == 0) of_warp[warp][r][b] = sum;
        }
    __syncthreads();
    for (int i = threadIdx.x; i < ROWS<BATCH> * count; i += blockDim.x) {
        const int r = i % ROWS<BATCH>, b = i / ROWS<BATCH>;
        if (row + r >= outputs) continue;
        A sum = of_warp[0][r][b];
        for (int other = 1; other < warps; other++) sum += of_warp[other][r][b];
        out[b * outputs + row + r] = T(bias ? sum + A(bias[row + r]) : sum);
    }
}
