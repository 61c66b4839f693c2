// Products of a few rows with a packed matrix, and its unpacking.
//
//     out[m, n] = sum_k x[m, k] * weight[n, k] (+ bias[n])
//
// `product` is that of few_rows.cuh. Bytes: the codes are read once for each eight rows of x, and
// unpacked weights are not stored, so a token costs the matrix's packed bytes. Grid: one block per
// ROWS rows of the matrix, by one per BATCH rows of x. For several rows of 16 bits, GPUs with
// tensor cores use small_batch.cu.
//
// `unpack` writes each weight once: one warp per 256 weights. Grid: (rows, steps of 1024 weights). With
// `index` these are rows of an embedding of `count` rows: out[i] = weight[index[i]]. Negative indices
// count from the end; one out of range sets the fault, and its row is not written.
#include <following.cuh>

#include "few_rows.cuh"

template <class FORMAT, class T>
__device__ void unpack(Packed w, const Int* index, Int count, int* fault, T* out) {
    trigger_next_kernel();
    wait_for_previous_kernel();
    w.table = shared_table(w.table);
    const int lane = threadIdx.x % 32;
    const Int step = Int(blockIdx.y) * (blockDim.x / 32) + threadIdx.x / 32;
    const Int at[2] = {step * 256 + FORMAT::first(lane), step * 256 + FORMAT::second(lane)};
    if (at[0] >= w.columns) return;
    Int row = index ? index[blockIdx.x] : Int(blockIdx.x);
    if (index && row < 0) row += count;
    if (index && (row < 0 || row >= count)) {
        if (step == 0 && lane == 0) *fault = 1;
        return;
    }
    float values[8];
    load_weights<FORMAT>(w, row, step, lane, values);
    out += Int(blockIdx.x) * w.columns;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const Int column = at[i / 4] + i % 4;
        if (column < w.columns) out[column] = T(computed<T>(values[i]));
    }
}

#define PRODUCT(FORMAT, BATCH, NAME, T)                                                            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) FORMAT##_product_##BATCH##_##NAME( \
        const T* x, const Byte* codes, const void* scales, const Byte* zeros,                      \
        const __grid_constant__ Codebook table,                                                    \
        const T* bias, T* out, Int batch, Int outputs, Int columns, Int group) {                   \
        const Int from = Int(blockIdx.y) * BATCH, left = batch - from;                             \
        product<FORMAT, BATCH>(x + from * columns,                                                 \
                               Packed{codes, scales, zeros, columns, group, table}, bias,          \
                               out + from * outputs, outputs, int(left < BATCH ? left : BATCH));   \
    }
#define EXPORT_FORMAT(FORMAT, NAME, T)                                                             \
    PRODUCT(FORMAT, 1, NAME, T)                                                                    \
    PRODUCT(FORMAT, 8, NAME, T)                                                                    \
    extern "C" __global__ void FORMAT##_unpack_##NAME(                                             \
        const Byte* codes, const void* scales, const Byte* zeros,                                  \
        const __grid_constant__ Codebook table, const Int* index, Int count, int* fault, T* out,   \
        Int columns, Int group) {                                                                  \
        unpack<FORMAT>(Packed{codes, scales, zeros, columns, group, table}, index, count, fault,   \
                       out);                                                                       \
    }
#define EXPORT(NAME, T) FOR_EACH_FORMAT(EXPORT_FORMAT, NAME, T)
FOR_EACH_FLOAT(EXPORT)
