// Attention: out = softmax(scale q k^T + mask) v, without a (T, S) array (Dao et al. 2022).
//
// A block computes 16 rows of a group of heads that share their keys, 4 per warp, and loops over
// the keys in tiles of 32, one per lane (`attend`).
// Grid: (row tiles, B * Hk, parts): with few rows, as in decoding, the keys are split into parts
// (Dao et al. 2023, "Flash-Decoding"), and a second kernel combines them.
// Bytes: q and out once; k and v once for each row tile, mostly from the L2 cache. Products use FMA
// in float32 (float64): arithmetic is the bound. 16-bit floats use tensor cores if heads are whole
// packs of 16 bytes (flash_attention.cu).
#include <following.cuh>

#include "attention_rows.cuh"

// Keys and values in arrays, with a mask.
template <class T> struct Arrays {
    typedef computed<T> A;
    const Group& group;
    const T *keys, *values;
    const void* mask;

    __device__ void load_keys(A* to, Int pitch, Int key, Int here) const {
        const Problem& p = group.problem;
        load_rows(to, pitch, keys + key * p.k_row, p.k_row, p.width, here, Int(TILE));
    }
    __device__ void load_values(A* to, Int pitch, Int key, Int here) const {
        const Problem& p = group.problem;
        load_rows(to, pitch, values + key * p.v_row, p.v_row, p.value_width, here, Int(TILE));
    }
    __device__ A masked(Int row, Int key, A score) const {
        return ::masked<T>(group, mask, row, key, score);
    }
};

template <class T, int COLUMNS>
__device__ void attention(const T* q, const T* k, const T* v, const void* mask,
                          const Results<T>& results, const Problem& p) {
    Group group(p);
    Int first = Int(blockIdx.x) * ROWS, count = min(Int(ROWS), p.group_rows() - first);
    Int begin, end;
    key_range(p, first, first + count - 1, begin, end);
    Arrays<T> source{group, k + group.k_offset(), v + group.v_offset(), mask};
    extern __shared__ double memory[];
    attend<T, COLUMNS>(q, source, group, begin, end, results, memory);
}

// Combines the parts (parts, rows, E + 2) of each row: the weighted values, the largest score and
// the sum of weights. One block per row; its warps divide the parts, so that their loads overlap.
// At most 512 parts and 256 columns. `high_out` and `log_sum_out` may be null.
constexpr int JOIN_WARPS = 8, MOST_PARTS = 512;

template <class T>
__device__ void join_parts(const computed<T>* partial, T* out, computed<T>* high_out,
                           computed<T>* log_sum_out, Int parts, Int rows, Int width) {
    typedef computed<T> A;
    __shared__ A factors[MOST_PARTS], sums[JOIN_WARPS][256];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, count = int(parts), columns = int(width);
    const Int row = blockIdx.x, step = rows * (width + 2);
    const A* of_row = partial + row * (width + 2);
    trigger_next_kernel();
    wait_for_previous_kernel();
    A high = -infinity<A>(), sum = 0;
    for (int i = lane; i < count; i += 32) {
        const A other = of_row[i * step + columns];
        high = other > high || other != other ? other : high;
    }
    high = warp_max(high);
    for (int i = lane; i < count; i += 32) {
        const A other = of_row[i * step + columns];
        const A factor = other == -infinity<A>() ? A(0) : exp(other - high);
        sum += of_row[i * step + columns + 1] * factor;
        if (warp == 0) factors[i] = factor;
    }
    sum = warp_sum(sum);
    __syncthreads();
    for (int c = lane; c < columns; c += 32) {
        A x = 0;
#pragma unroll 8
        for (int i = warp; i < count; i += JOIN_WARPS) x += of_row[i * step + c] * factors[i];
        sums[warp][c] = x;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < columns; c += 32 * JOIN_WARPS) {
        A x = 0;
        for (int w = 0; w < JOIN_WARPS; w++) x += sums[w][c];
        out[row * width + c] = T(sum == 0 ? A(0) : x / sum);
    }
    if (threadIdx.x == 0) Results<T>{out, high_out, log_sum_out}.set_statistics(row, high, sum);
}

#define FORWARD(COLUMNS, NAME, T)                                                                 \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_##COLUMNS##_##NAME(            \
        const T* q, const T* k, const T* v, const void* mask, T* out, computed<T>* high,          \
        computed<T>* log_sum, computed<T>* partial, Int parts, PROBLEM_PARAMETERS) {              \
        attention<T, COLUMNS / 32>(q, k, v, mask, Results<T>{out, high, log_sum, partial, parts}, \
                                   PROBLEM);                                                      \
    }
#define EXPORT(NAME, T)                                                                        \
    FORWARD(64, NAME, T)                                                                       \
    FORWARD(128, NAME, T)                                                                      \
    FORWARD(256, NAME, T)                                                                      \
    extern "C" __global__ void join_parts_##NAME(const computed<T>* partial, T* out,           \
                                                 computed<T>* high, computed<T>* log_sum,      \
                                                 Int parts, Int rows, Int width) {             \
        join_parts(partial, out, high, log_sum, parts, rows, width);                           \
    }
FOR_EACH_FLOAT(EXPORT)
