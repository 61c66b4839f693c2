// Gradients of scores in the attention kernels of warps and of warpgroups, and the parameters of
// these kernels and of attention_float32_grad.cu.
#pragma once
#include "attention_tiles.cuh"

// The probability of a score that still has to be multiplied by `later`.
__device__ inline float probability(float score, float later, const float4& of) {
    return power_of_two(fmaf(fmaf(score, later, -of.x), LOG2_E, -of.y));
}

// Multiplies dots, from which delta(m, n, i) is subtracted later, by the derivative of the cap.
template <int M, int N, class F>
__device__ void differentiate_cap(float (&dot)[M][N][4], const float (&score)[M][N][4], float softcap,
                                  F delta) {
    if (!(softcap > 0)) return;
    const float inverse = 1 / softcap;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float of_cap = score[m][n][i] * inverse, less = delta(m, n, i);
                dot[m][n][i] = (dot[m][n][i] - less) * (1 - of_cap * of_cap) + less;
            }
}

// From scores to probabilities; of(m, n, i) are the statistics of the row.
template <int M, int N, class F>
__device__ void probabilities(float (&score)[M][N][4], float later, F of) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[m][n][i] = probability(score[m][n][i], later, of(m, n, i));
}

// From dots to gradients of scores: p (dot - delta).
template <int M, int N, class F>
__device__ void differentiate_softmax(float (&dot)[M][N][4], const float (&p)[M][N][4], F of) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) dot[m][n][i] = p[m][n][i] * (dot[m][n][i] - of(m, n, i).z);
}

// The gradient for row `row` of the group from the block's part of the keys, in `partial` (parts,
// B, H, T, D); the gridDim.z parts are summed later.
__device__ inline float* of_part(float* partial, const Group& group, int row) {
    const Problem& p = group.problem;
    const Int all = p.heads * p.queries * (gridDim.y / unsigned(p.key_heads));
    return partial + (blockIdx.z * all + group.query(row)) * p.width;
}

// Writes the warp's first `count` rows times `scale` there, from row `first` of the group on.
template <int M, int N>
__device__ void store_part(float* partial, const Group& group, int first, int count,
                           const float (&values)[M][N][4], float scale) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = 16 * m + 8 * half + lane / 4;
            if (row >= count) continue;
            float* to = of_part(partial, group, first + row) + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < N; n++)
                if (8 * n < int(group.problem.width))
                    *reinterpret_cast<float2*>(to + 8 * n) =
                        make_float2(values[m][n][2 * half] * scale, values[m][n][2 * half + 1] * scale);
        }
}

// The rows of queries that see any of the keys first..last, in tiles of SIZE rows of one head.
template <int SIZE> struct RowTiles {
    const Problem& p;
    int begin, end;  // rows begin..end-1 of each head
    int head, t;     // this tile's first row

    __device__ RowTiles(const Problem& p, int first, int last)
        : p(p), begin(p.causal ? first : 0), end(int(p.queries)), head(0), t(begin) {
        if (p.causal && p.window) end = min(end, last + int(p.window));
    }
    __device__ bool there() const { return begin < end && head < p.heads_of_group(); }
    __device__ void advance() {
        t += SIZE;
        if (t >= end) t = begin, head++;
    }
    __device__ int count() const { return min(SIZE, end - t); }
    __device__ int row() const { return head * int(p.queries) + t; }  // of the group
    // Whether all of the tile's rows see all of the keys first..last.
    __device__ bool see_all(int first, int last) const {
        if (p.mask_kind || t + SIZE > end) return false;
        return !p.causal || (last <= t && (p.window == 0 || first > t + SIZE - 1 - int(p.window)));
    }
};

// Scores (keys, rows) become -inf where a row of the tile may not see a key; keys count from
// `first_key`.
template <class T, int M, int N>
__device__ void mask_transposed(float (&score)[M][N][4], const Group& group, const void* mask,
                                const RowTiles<8 * N>& rows, int first_key) {
    const Problem& p = group.problem;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int of_tile = 8 * n + lane % 4 * 2 + i, t = rows.t + of_tile;
            const int key = first_key + lane / 4;
            int begin = 0, end = t < rows.end ? int(p.keys) : 0;  // keys that the row may see
            if (p.causal) {
                end = min(end, t + 1);
                if (p.window) begin = t - int(p.window) + 1;
            }
            begin -= key, end -= key;
            const Int at = mask_at(group, rows.row() + of_tile, key);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int of_key = 16 * m + 8 * half;
                    float& s = score[m][n][2 * half + i];
                    s = of_key >= begin && of_key < end ? masked<T>(p, mask, at, of_key, s)
                                                        : -infinity<float>();
                }
        }
}

// The parameters of the gradient kernels.
#define GIVEN(T)                                                                                    \
    const T *g, Int g_batch, Int g_head, Int g_row, const T *q, Int q_batch, Int q_head, Int q_row, \
        const T *k, const T *v, const void *mask, const float4 *statistics
#define GIVE g, g_batch, g_head, g_row, q, q_batch, q_head, q_row, k, v, mask, statistics
#define OF_QUERIES(T) T *gq, Int gq_batch, Int gq_head, Int gq_row, float *partial
#define GIVE_QUERIES gq, gq_batch, gq_head, gq_row, partial
#define OF_KEYS(T) \
    T *gk, Int gk_batch, Int gk_head, Int gk_row, T *gv, Int gv_batch, Int gv_head, Int gv_row
#define GIVE_KEYS gk, gk_batch, gk_head, gk_row, gv, gv_batch, gv_head, gv_row
