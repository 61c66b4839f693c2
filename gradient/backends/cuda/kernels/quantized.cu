// Products of a few rows with a packed matrix, and its weights unpacked.
//
//     out[m, n] = sum_k x[m, k] * weight[n, k] (+ bias[n])
//
// x (batch, columns) and out (batch, outputs) lie row by row. The codes are read once for each eight
// rows of x, and nothing of the matrix is written: a token costs its packed bytes. A block has two
// rows of the matrix, whose 256-weight steps its warps take in turn, so that each number of x that
// is loaded serves two; the warps' sums are added up in their order, whatever that they ran in.
// Grid of the products: a block for each two rows of the matrix, by one for each BATCH rows of x.
//
// `unpack` writes each weight once: a warp for each 256 of them. Grid: (rows, steps of 1024 weights).
#include "packed.cuh"

constexpr int ROWS = 2, WARPS = 4;

__device__ inline const float* shared_table(const float* table) {
    __shared__ float held[16];
    if (!table) return nullptr;
    if (threadIdx.x < 16) held[threadIdx.x] = table[threadIdx.x];
    __syncthreads();
    return held;
}

// Four numbers of a row of x from `at` on, zeros behind its end; by one load where rows begin at
// multiples of four.
template <class T>
__device__ void load_four(const T* row, Int at, Int columns, bool in_packs, computed<T>* values) {
    if (in_packs && at + 4 <= columns) {
        const auto four = *reinterpret_cast<const Pack<T, 4>*>(row + at);
#pragma unroll
        for (int i = 0; i < 4; i++) values[i] = computed<T>(four.values[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            values[i] = at + i < columns ? computed<T>(row[at + i]) : computed<T>(0);
    }
}

template <class FORMAT, int BATCH, class T>
__device__ void product(const T* x, Packed w, const T* bias, T* out, Int batch, Int outputs) {
    typedef computed<T> A;
    __shared__ A of_warp[WARPS][ROWS][BATCH];
    w.table = shared_table(w.table);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const Int row = Int(blockIdx.x) * ROWS, from = Int(blockIdx.y) * BATCH;
    const int count = batch - from < BATCH ? int(batch - from) : BATCH;
    const bool in_packs = w.columns % 4 == 0 &&
                          reinterpret_cast<unsigned long long>(x) % (4 * sizeof(T)) == 0;
    x += from * w.columns, out += from * outputs;
    A sums[ROWS][BATCH] = {};
    for (Int step = warp; step * 256 < w.columns; step += warps) {
        const Int first = step * 256 + FORMAT::first(lane), second = step * 256 + FORMAT::second(lane);
        if (first >= w.columns) continue;
        float values[ROWS][8];
#pragma unroll
        for (int r = 0; r < ROWS; r++)  // past the last row the last one is read again
            FORMAT::load(w, row + r < outputs ? row + r : outputs - 1, step, lane, values[r]);
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            if (b >= count) break;
            A of_x[8];
            load_four(x + b * w.columns, first, w.columns, in_packs, of_x);
            load_four(x + b * w.columns, second, w.columns, in_packs, of_x + 4);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int i = 0; i < 8; i++) sums[r][b] += of_x[i] * A(values[r][i]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            A sum = sums[r][b];
            for (int distance = 16; distance > 0; distance /= 2)
                sum += __shfl_xor_sync(0xffffffffu, sum, distance);
            if (lane == 0) of_warp[warp][r][b] = sum;
        }
    __syncthreads();
    for (int i = threadIdx.x; i < ROWS * count; i += blockDim.x) {
        const int r = i % ROWS, b = i / ROWS;
        if (row + r >= outputs) continue;
        A sum = of_warp[0][r][b];
        for (int other = 1; other < warps; other++) sum += of_warp[other][r][b];
        out[b * outputs + row + r] = T(bias ? sum + A(bias[row + r]) : sum);
    }
}

template <class FORMAT, class T> __device__ void unpack(Packed w, T* out) {
    w.table = shared_table(w.table);
    const int lane = threadIdx.x % 32;
    const Int row = blockIdx.x, step = Int(blockIdx.y) * (blockDim.x / 32) + threadIdx.x / 32;
    const Int at[2] = {step * 256 + FORMAT::first(lane), step * 256 + FORMAT::second(lane)};
    if (at[0] >= w.columns) return;
    float values[8];
    FORMAT::load(w, row, step, lane, values);
    out += row * w.columns;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const Int column = at[i / 4] + i % 4;
        if (column < w.columns) out[column] = T(computed<T>(values[i]));
    }
}

#define PRODUCT(FORMAT, BATCH, NAME, T)                                                            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) FORMAT##_product_##BATCH##_##NAME( \
        const T* x, const Byte* codes, const void* scales, const Byte* zeros, const float* table,  \
        const T* bias, T* out, Int batch, Int outputs, Int columns, Int group) {                   \
        product<FORMAT, BATCH>(x, Packed{codes, scales, zeros, columns, group, table}, bias, out,  \
                               batch, outputs);                                                    \
    }
#define EXPORT_FORMAT(FORMAT, NAME, T)                                                             \
    PRODUCT(FORMAT, 1, NAME, T)                                                                    \
    PRODUCT(FORMAT, 8, NAME, T)                                                                    \
    extern "C" __global__ void FORMAT##_unpack_##NAME(                                             \
        const Byte* codes, const void* scales, const Byte* zeros, const float* table, T* out,      \
        Int columns, Int group) {                                                                  \
        unpack<FORMAT>(Packed{codes, scales, zeros, columns, group, table}, out);                  \
    }
#define EXPORT(NAME, T)                  \
    EXPORT_FORMAT(q8_0, NAME, T)         \
    EXPORT_FORMAT(q4_0, NAME, T)         \
    EXPORT_FORMAT(q4_k, NAME, T)         \
    EXPORT_FORMAT(q5_k, NAME, T)         \
    EXPORT_FORMAT(q6_k, NAME, T)         \
    EXPORT_FORMAT(int8_channel, NAME, T) \
    EXPORT_FORMAT(int4_group, NAME, T)   \
    EXPORT_FORMAT(nf4, NAME, T)
FOR_EACH_FLOAT(EXPORT)
