// Online softmax: of scores that come tile by tile (Dao 2023, "FlashAttention-2", algorithm 1).
#pragma once
#include "attention_tiles.cuh"

// A lane's state for its 2 M rows. `high` and `sum` cover only its own columns until `add_up`.
// Scores still have to be multiplied by `later`. Exponentials are relative to `base`, the row's
// largest score some tiles ago. Only if a row of the warp has a score that exceeds it by GROWTH
// powers of two, which is rare after the first tile, do the lanes agree on a new base and rescale
// the row's sum and result.
template <int M, int HEAD> struct Softmax {
    static constexpr float GROWTH = 8;
    float base[M][2], high[M][2], sum[M][2], out[M][HEAD / 8][4];

    __device__ Softmax() {
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++)
                base[m][half] = high[m][half] = -infinity<float>(), sum[m][half] = 0;
#pragma unroll
            for (int n = 0; n < HEAD / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) out[m][n][i] = 0;
        }
    }

    // The score whose exponential is 1 in this row.
    __device__ float origin(int m, int half) const {
        return base[m][half] == -infinity<float>() ? 0.f : base[m][half];
    }
    // log2 of the weight of `score` relative to `origin`. If `later` is not 1, both are multiplied
    // by it before the subtraction. This rounds the product of `origin`, but not that of a score
    // (FMA), so all sums have a common factor, which `add_up` removes.
    __device__ static float above(float score, float origin, float later) {
        const float factor = later * LOG2_E;
        return later == 1 ? (score - origin) * LOG2_E : fmaf(score, factor, -__fmul_rn(origin, factor));
    }

    // Adds a tile's scores; they become e^(later (score - base)). The steps depend on each other:
    // each is done for all of the lane's rows before the next one, if there are enough registers.
    template <int N> __device__ void take(float (&score)[M][N][4], float later) {
        const float factor = later * LOG2_E;
        bool grows = false;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    high[m][half] = fmaxf(high[m][half], fmaxf(score[m][n][2 * half], score[m][n][2 * half + 1]));
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                grows |= (high[m][half] - base[m][half]) * factor > GROWTH;
        if (__any_sync(0xffffffffu, grows)) raise(later);
        constexpr int TOGETHER = M * HEAD <= 128 ? M : 1;
#pragma unroll
        for (int first = 0; first < M; first += TOGETHER) {
            float least[TOGETHER][2], added[TOGETHER][2];
#pragma unroll
            for (int m = 0; m < TOGETHER; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    least[m][half] = origin(first + m, half), added[m][half] = 0;
            if (later == 1) {
#pragma unroll
                for (int m = 0; m < TOGETHER; m++)
#pragma unroll
                    for (int n = 0; n < N; n++)
#pragma unroll
                        for (int i = 0; i < 4; i++) score[first + m][n][i] -= least[m][i / 2];
            }
#pragma unroll
            for (int m = 0; m < TOGETHER; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    least[m][half] = later == 1 ? 0.f : __fmul_rn(least[m][half], factor);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int m = 0; m < TOGETHER; m++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        float& x = score[first + m][n][i];
                        x = power_of_two(fmaf(x, factor, -least[m][i / 2]));
                        added[m][i / 2] += x;
                    }
#pragma unroll
            for (int m = 0; m < TOGETHER; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) sum[first + m][half] += added[m][half];
        }
    }

    // The largest score becomes the base in rows that have grown.
    __device__ void raise(float later) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float most = fmaxf(high[m][half], __shfl_xor_sync(0xffffffffu, high[m][half], 1));
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                const float before = base[m][half];
                if ((most - before) * later * LOG2_E > GROWTH) base[m][half] = most;
                const float now = origin(m, half), shrink = power_of_two(
                    later == 1 ? (before - now) * LOG2_E
                               : __fmul_rn(before, later * LOG2_E) - __fmul_rn(now, later * LOG2_E));
                sum[m][half] *= shrink;
#pragma unroll
                for (int n = 0; n < HEAD / 8; n++)
                    out[m][n][2 * half] *= shrink, out[m][n][2 * half + 1] *= shrink;
            }
    }

    // Sums over the four lanes of a row, relative to the largest score; `high` becomes that score
    // times `later`.
    __device__ void add_up(float later) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float& most = high[m][half];
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                const float less = -above(most, origin(m, half), later);
                const float right = abs(less) < infinity<float>() ? power_of_two(less) : 1.f;
                sum[m][half] += __shfl_xor_sync(0xffffffffu, sum[m][half], 1);
                sum[m][half] += __shfl_xor_sync(0xffffffffu, sum[m][half], 2);
                sum[m][half] *= right, most *= later;
#pragma unroll
                for (int n = 0; n < HEAD / 8; n++)
                    out[m][n][2 * half] *= right, out[m][n][2 * half + 1] *= right;
            }
    }
};
