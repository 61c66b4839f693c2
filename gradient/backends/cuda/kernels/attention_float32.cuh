// Shared by the attention kernels of float32: tiles in shared memory, and their products, computed
// by blocks of sums in registers.
//
// A block has 4 warps. The 32 lanes of a warp form a 4 x 8 grid: lane i has R of the warp's 4 R
// rows, i / 8, i / 8 + 4, ..., and in these columns i % 8, i % 8 + 8, ..., which are rows of the
// other side's tile. So a lane reads 16 bytes of R rows and of J columns for 4 R J multiply-adds:
// if both are 8, 16 loads for 256. Rows are HEAD + 4 elements apart: adjacent rows start in
// different groups of 4 banks, so the 16-byte loads of 8 lanes have no bank conflict.
//
// Weights pass through shared memory to the other lanes of their warp, 32 columns at a time, with
// rows 40 apart: the 32 lanes write to different banks.
#pragma once
#include "attention_tiles.cuh"

constexpr int PIECE = 32, PIECE_PITCH = PIECE + 8;  // columns of weights in shared memory
template <int HEAD> constexpr int float_pitch = HEAD + 4;

// Starts copying `count` rows, row_at(0), row_at(1), ..., to a tile of ROOM rows; the others become
// zeros. All threads of the block call it.
template <int HEAD, int ROOM, class F>
__device__ void load_floats(float* tile, int count, int width, F row_at) {
    constexpr int PIECES = HEAD / 4, STEP = THREADS / PIECES;
    static_assert(THREADS % PIECES == 0 && ROOM % STEP == 0, "a thread has the same columns of each row");
    const int first = threadIdx.x / PIECES, column = threadIdx.x % PIECES * 4;
    const bool inside = column < width;
    float* to = tile + first * float_pitch<HEAD> + column;
#pragma unroll 4
    for (int row = 0; row < ROOM; row += STEP) {
        const bool there = inside && first + row < count;
        const float* from = row_at(there ? first + row : 0) + (there ? column : 0);
        cp_async(to + row * float_pitch<HEAD>, from, there ? 16 : 0);
    }
}

// The first of a lane's rows in the warp's part of a tile, and of its columns, which are rows of
// the other tile.
template <int HEAD, int R> __device__ const float* lane_rows(const float* tile) {
    return tile + (threadIdx.x / 32 * 4 * R + threadIdx.x % 32 / 8) * float_pitch<HEAD>;
}
template <int HEAD> __device__ const float* lane_columns(const float* tile) {
    return tile + threadIdx.x % 8 * float_pitch<HEAD>;
}

// out = a b^T for the lane's rows and columns, over `width` elements.
template <int HEAD, int R, int J>
__device__ void float_products(float (&out)[R][J], const float* a, const float* b, int width) {
    constexpr int PITCH = float_pitch<HEAD>;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < J; j++) out[i][j] = 0;
#pragma unroll 1
    for (int k = 0; k < width; k += 4) {
        float4 x[R];
#pragma unroll
        for (int i = 0; i < R; i++) x[i] = *reinterpret_cast<const float4*>(a + 4 * i * PITCH + k);
#pragma unroll
        for (int j = 0; j < J; j++) {
            const float4 y = *reinterpret_cast<const float4*>(b + 8 * j * PITCH + k);
#pragma unroll
            for (int i = 0; i < R; i++) out[i][j] = fmaf(x[i].x, y.x, out[i][j]);
#pragma unroll
            for (int i = 0; i < R; i++) out[i][j] = fmaf(x[i].y, y.y, out[i][j]);
#pragma unroll
            for (int i = 0; i < R; i++) out[i][j] = fmaf(x[i].z, y.z, out[i][j]);
#pragma unroll
            for (int i = 0; i < R; i++) out[i][j] = fmaf(x[i].w, y.w, out[i][j]);
        }
    }
}

// sum += weights b. `weights` are those of the lane's rows, one for each row of tile `b`. `piece`
// has room for the warp's 4 R rows. The lane has columns 4 (lane % 8) .. + 3 of each 32.
template <int HEAD, int R, int J>
__device__ void add_weighted_floats(float (&sum)[R][HEAD / 8], const float (&weights)[R][J], const float* b,
                                    float* piece) {
    constexpr int OF_PIECE = PIECE / 8;
    const int lane = threadIdx.x % 32;
    float* own = piece + lane / 8 * PIECE_PITCH;
#pragma unroll
    for (int part = 0; part < J / OF_PIECE; part++) {
        __syncwarp();  // the previous piece is no longer read
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < OF_PIECE; j++)
                own[4 * i * PIECE_PITCH + lane % 8 + 8 * j] = weights[i][part * OF_PIECE + j];
        __syncwarp();  // the piece is written
        const float* rows = b + part * PIECE * float_pitch<HEAD> + lane % 8 * 4;
#pragma unroll 1
        for (int k = 0; k < PIECE; k += 4) {
            float w[R][4];
#pragma unroll
            for (int i = 0; i < R; i++)
                *reinterpret_cast<float4*>(w[i]) =
                    *reinterpret_cast<const float4*>(own + 4 * i * PIECE_PITCH + k);
#pragma unroll
            for (int u = 0; u < 4; u++)
#pragma unroll
                for (int n = 0; n < HEAD / 32; n++) {
                    const float4 y =
                        *reinterpret_cast<const float4*>(rows + (k + u) * float_pitch<HEAD> + 32 * n);
#pragma unroll
                    for (int i = 0; i < R; i++) {
                        sum[i][4 * n] = fmaf(w[i][u], y.x, sum[i][4 * n]);
                        sum[i][4 * n + 1] = fmaf(w[i][u], y.y, sum[i][4 * n + 1]);
                        sum[i][4 * n + 2] = fmaf(w[i][u], y.z, sum[i][4 * n + 2]);
                        sum[i][4 * n + 3] = fmaf(w[i][u], y.w, sum[i][4 * n + 3]);
                    }
                }
        }
    }
}

// From products to scores: scales and caps them.
template <int R, int J> __device__ void cap_floats(float (&score)[R][J], const Problem& p) {
    const float softcap = float(p.softcap);
    const float inner = softcap > 0 ? float(p.scale / p.softcap) : float(p.scale);
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < J; j++) score[i][j] *= inner;
    if (softcap > 0)
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < J; j++) score[i][j] = softcap * quick_tanh(score[i][j]);
}

// The keys begin..end that a row of the group may see by causality and the window.
__device__ inline void keys_of_row(const Problem& p, int row, int& begin, int& end) {
    begin = 0, end = row < int(p.group_rows()) ? int(p.keys) : 0;
    if (!p.causal) return;
    const int t = row % int(p.queries);
    end = min(end, t + 1);
    if (p.window) begin = t - int(p.window) + 1;
}

// Masks the scores of a row and COUNT keys, first_key, first_key + APART, ...: -inf if the row may
// not see the key; an additive mask is added. score(i) is that of the i-th key.
template <int COUNT, int APART, class F>
__device__ void mask_row(F score, const Group& group, const void* mask, int row, int first_key) {
    const Problem& p = group.problem;
    const bool bools = p.mask_kind == 1;
    int begin, end;
    keys_of_row(p, row, begin, end);
    begin -= first_key, end -= first_key;
    if (p.mask_kind && begin < end) {
        const Int at = mask_at(group, row, first_key);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (APART * i < begin || APART * i >= end) continue;
            const Int number = at + APART * i * p.mask_key;
            if (bools && !static_cast<const unsigned char*>(mask)[number]) score(i) = -infinity<float>();
            if (!bools) score(i) += static_cast<const float*>(mask)[number];
        }
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        if (APART * i < begin || APART * i >= end) score(i) = -infinity<float>();
}

// The same for rows first_row + 4 i and keys first_key + 8 j.
template <int R, int J>
__device__ void mask_floats(float (&score)[R][J], const Group& group, const void* mask, int first_row,
                            int first_key) {
#pragma unroll
    for (int i = 0; i < R; i++)
        mask_row<J, 8>([&](int j) -> float& { return score[i][j]; }, group, mask, first_row + 4 * i, first_key);
}

// The same for keys first_key + 4 i and rows first_row + 8 j.
template <int R, int J>
__device__ void mask_transposed_floats(float (&score)[R][J], const Group& group, const void* mask,
                                       int first_row, int first_key) {
#pragma unroll
    for (int j = 0; j < J; j++)
        mask_row<R, 4>([&](int i) -> float& { return score[i][j]; }, group, mask, first_row + 8 * j, first_key);
}
