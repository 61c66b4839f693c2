// Products of one to four rows with up to three matrices, with the operations before and after them
// in a decoder's step, in one launch.
//
//     y_i[m, n] = sum_k x[m, k] * weight_i[n, k]            x after its RMS norm, if there is one
//     out = y + bias, residual + y, or silu(y_0) * y_1       rounded as by separate calls
//
// x (batch, columns) and the matrices (outputs, columns) are row-major. A warp computes one row of
// a matrix, or the same row of the two matrices of a gated product. A lane loads 16 bytes at a
// time, in two halves of DEPTH loads per row: one is in flight while the other is used. For
// bfloat16 that is 4 KiB per warp, about 90 KiB per multiprocessor; 40 keep an H100's memory busy.
// The loads of weights start before x is read: in a graph, before the previous kernel, which may
// compute x, has ended (following.cuh). The block copies x to shared memory. The order in which the
// lanes' sums are added depends only on the number of columns.
//
// Bytes: the matrices once; x once per block of 8 warps, from the L2 cache. Instructions per 16
// bytes of bfloat16: 26 per lane, which an H100's multiprocessor issues in a sixth of the time that
// memory takes.
//
// On an H100, started early in a graph, for bfloat16: 99 % of the memory bandwidth (2.98 TB/s) with
// 131 MB, 93 with 46 MB, 78 with 23 MB, 71 with 8.4 MB. cuBLAS, which does not start early: 86, 82,
// 60, 44.
//
// Grid: one block per 8 warps' rows. Shared memory: x.
#include <following.cuh>

#include "decoding.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;

// Copies 16 bytes to shared memory, asynchronously if the GPU can: the use of a loaded number
// behind a branch would wait for the weights, too (packed_row_products.cu).
template <class T> __device__ void begin_copy(T* to, const T* from) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
#else
    cp_async(to, from);
#endif
}
__device__ inline void wait_for_copies() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    cp_async_commit(), cp_async_wait<0>();
#endif
}

template <int BATCH, bool GATED, class T>
__device__ void row_product(const T* x, const T* norm, computed<T> reciprocal, computed<T> eps, Int round_first,
                            Int norm_threads, const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& c,
                            const T* residual, const T* bias, int columns, int batch) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T), ROWS = GATED ? 2 : 1, DEPTH = 4 / ROWS, HALF = DEPTH * 32 * N;
    typedef uint4 Loads[DEPTH][ROWS];
    extern __shared__ float4 shared[];
    T* const of_x = reinterpret_cast<T*>(shared);
    const int lane = threadIdx.x % 32, count = BATCH == 1 ? 1 : batch;
    const int units = GATED ? a.outputs : a.outputs + b.outputs + c.outputs;
    const int place = blockIdx.x * WARPS + threadIdx.x / 32, unit = min(place, units - 1);
    // Selects values: a selection among the structs would put all three in local memory.
    const bool in_a = GATED || unit < a.outputs, in_b = unit < a.outputs + b.outputs;
    const int row = in_a ? unit : in_b ? unit - a.outputs : unit - a.outputs - b.outputs;
    const void* const codes = in_a ? a.codes : in_b ? b.codes : c.codes;
    const T* rows[ROWS] = {static_cast<const T*>(codes) + Int(row) * columns};
    if constexpr (GATED) rows[1] = static_cast<const T*>(b.codes) + Int(row) * columns;

    // Past the end of a row, the last numbers are read again, and not used.
    const auto load = [&](Loads& held, int from) {
        if (from >= columns) return;
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const int at = from + (d * 32 + lane) * N;
#pragma unroll
            for (int r = 0; r < ROWS; r++) held[d][r] = load_once(rows[r] + (at < columns ? at : columns - N));
        }
    };
    Loads low, high;
    load(low, 0), load(high, HALF);
    const int first = threadIdx.x * N < columns ? threadIdx.x * N : 0;
    // In the place of the numbers of x that this thread will write.
    if (BATCH == 1 && norm && threadIdx.x * N < columns) begin_copy(of_x + first, norm + first);
    wait_for_previous_kernel();  // weights do not depend on it
    trigger_next_kernel();       // not earlier: the next kernel's loads would delay these

    for (int m = 0; m < BATCH; m++) {
        if (m >= count) break;
        const T* of_row = x + Int(m) * columns;
        const auto put = [&](int at, const Pack<T, N>& pack) {
            if (at < columns) *reinterpret_cast<Pack<T, N>*>(of_x + m * columns + at) = pack;
        };
        if (norm) {
            const auto first_pack = load_pack<N>(of_row + first);
            const A scale = norm_of<(BATCH > 1)>(of_row, first_pack, columns, reciprocal, eps, int(norm_threads));
            if (BATCH == 1) wait_for_copies();
#pragma unroll 1
            for (int from = 0; from < columns; from += THREADS * N) {
                const int at = from + threadIdx.x * N, read = at < columns ? at : 0;
                const bool copied = BATCH == 1 && !from && at < columns;
                const auto pack = from ? load_pack<N>(of_row + read) : first_pack;
                const auto times = load_pack<N>(copied ? of_x + read : norm + read);
                put(at, normed(pack, times, scale, round_first));
            }
        } else {
#pragma unroll 1
            for (int at = threadIdx.x * N; at < columns; at += THREADS * N)
                begin_copy(of_x + m * columns + at, of_row + at);
        }
    }
    wait_for_copies();
    __syncthreads();
    if (place >= units) return;

    A sums[ROWS][BATCH] = {};
    // Loads the residual or bias now, so that it is in flight meanwhile.
    const int outputs = in_a ? a.outputs : in_b ? b.outputs : c.outputs;
    T plus[BATCH], of_bias = T(0.0f);
    if constexpr (!GATED) {
        if (bias) of_bias = bias[row];
#pragma unroll
        for (int m = 0; m < BATCH; m++)
            if (residual && m < count) plus[m] = residual[Int(m) * outputs + row];
    }
    const auto use = [&](const Loads& held, int from, bool whole) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const int at = from + (d * 32 + lane) * N;
            if (!whole && at >= columns) continue;
#pragma unroll
            for (int m = 0; m < BATCH; m++) {
                if (m >= count) break;
                const auto numbers = load_pack<N>(of_x + m * columns + at);
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    const auto weights = *reinterpret_cast<const Pack<T, N>*>(&held[d][r]);
#pragma unroll
                    for (int k = 0; k < N; k++)
                        sums[r][m] += A(numbers.values[k]) * A(weights.values[k]);
                }
            }
        }
    };
    // Without branches for a complete half, so that loads from shared memory overlap.
    const auto use_half = [&](const Loads& held, int from) {
        const bool whole = BATCH == 1 && from + HALF <= columns;
        whole ? use(held, from, true) : use(held, from, false);
    };
#pragma unroll 1
    for (int from = 0; from < columns; from += 2 * HALF) {
        use_half(low, from);
        load(low, from + 2 * HALF);
        use_half(high, from + HALF);
        load(high, from + 3 * HALF);
    }
#pragma unroll
    for (int m = 0; m < BATCH; m++) {
        if (m >= count) break;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            for (int distance = 16; distance > 0; distance /= 2)
                sums[r][m] += __shfl_xor_sync(0xffffffffu, sums[r][m], distance);
        if (lane) continue;
        T* const out = (in_a ? a.out : in_b ? b.out : c.out) + Int(m) * outputs + row;
        if constexpr (GATED) {
            const A gate = A(T(sums[0][m])), up = A(T(sums[1][m]));
            *out = T(A(T(gate * sigmoid(gate))) * up);
        } else {
            A sum = sums[0][m];
            if (bias) sum += A(of_bias);
            *out = residual ? T(A(plus[m]) + A(T(sum))) : T(sum);
        }
    }
}

#define PRODUCT(KERNEL, BATCH, GATED, BLOCKS, NAME, T)                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) KERNEL##_##BATCH##_##NAME(      \
        const T* x, const T* norm, computed<T> reciprocal, computed<T> eps, Int round_first,      \
        Int norm_threads, const void* codes_0, const void* codes_1, const void* codes_2,          \
        const void* scales_0, const void* scales_1, const void* scales_2, T* out_0, T* out_1,     \
        T* out_2, Int outputs_0, Int outputs_1, Int outputs_2, const T* residual, const T* bias,  \
        Int columns, Int batch) {                                                                 \
        row_product<BATCH, GATED>(                                                                \
            x, norm, reciprocal, eps, round_first, norm_threads,                                  \
            Matrix<T>{codes_0, scales_0, out_0, int(outputs_0)},                                  \
            Matrix<T>{codes_1, scales_1, out_1, int(outputs_1)},                                  \
            Matrix<T>{codes_2, scales_2, out_2, int(outputs_2)}, residual, bias, int(columns),    \
            int(batch));                                                                          \
    }
#define EXPORT(NAME, T)                                  \
    PRODUCT(row_product, 1, false, 3, NAME, T)  \
    PRODUCT(row_product, 4, false, 3, NAME, T)  \
    PRODUCT(gated_product, 1, true, 3, NAME, T) \
    PRODUCT(gated_product, 4, true, 2, NAME, T)
FOR_EACH_FLOAT(EXPORT)
