// Attention of a block's rows to the keys of a `source`, tile by tile. For each row: the largest
// score so far, the sum of e^(score - largest), and the weighted sum of the values; a larger score
// rescales both sums (Dao et al. 2022, "FlashAttention", section 3.1).
//
// source.load_keys(tile, pitch, key, here) and load_values(...) copy `here` keys from `key` on to
// shared memory, followed by zeros; source.masked(row, key, score) is -inf if a row may not see a
// key. `memory` is dynamic shared memory. Row tiles are along gridDim.x, groups along y, parts of
// begin..end along z.
#pragma once
#include "attention.cuh"

template <class T, int COLUMNS, class SOURCE>
__device__ void attend(const T* q, const SOURCE& source, const Group& group, Int begin, Int end,
                       const Results<T>& results, double* memory) {
    typedef computed<T> A;
    const Problem& p = group.problem;
    Int pitch = p.width | 1;  // odd, so that lanes read different banks
    A* q_rows = reinterpret_cast<A*>(memory);
    A* k_tile = q_rows + ROWS * p.width;
    A* v_tile = k_tile + TILE * pitch;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Int first = Int(blockIdx.x) * ROWS, count = min(Int(ROWS), p.group_rows() - first);
    load_rows(q_rows, p.width, q + group.query(first) * p.width, p.width, p.width, count, Int(ROWS));

    A high[ROWS_OF_WARP], sum[ROWS_OF_WARP], result[ROWS_OF_WARP][COLUMNS];
    for (int r = 0; r < ROWS_OF_WARP; r++) {
        high[r] = -infinity<A>(), sum[r] = 0;
        for (int c = 0; c < COLUMNS; c++) result[r][c] = 0;
    }
    Int tiles = (end - begin + TILE - 1) / TILE, of_part = (tiles + results.parts - 1) / results.parts;
    Int from = begin + blockIdx.z * of_part * TILE, until = min(end, from + of_part * TILE);
    for (Int key = from; key < until; key += TILE) {
        Int here = min(Int(TILE), end - key);
        __syncthreads();  // previous tiles are no longer read
        source.load_keys(k_tile, pitch, key, here);
        source.load_values(v_tile, p.value_width, key, here);
        __syncthreads();
        A score[ROWS_OF_WARP];
        products(q_rows + warp * ROWS_OF_WARP * p.width, k_tile + lane * pitch, p.width, score);
        for (int r = 0; r < ROWS_OF_WARP; r++) {
            Int row = first + warp * ROWS_OF_WARP + r;
            score[r] = source.masked(row, key + lane, capped(p, score[r]));
            A largest = warp_max(score[r]);
            A before = high[r];
            if (largest > before || largest != largest) high[r] = largest;
            A weight = score[r] == -infinity<A>() ? A(0) : exp(score[r] - high[r]);
            A shrink = before == -infinity<A>() ? A(0) : exp(before - high[r]);
            sum[r] = sum[r] * shrink + warp_sum(weight);
            for (int c = 0; c < COLUMNS; c++) result[r][c] *= shrink;
            score[r] = weight;
        }
        add_rows(result, score, v_tile, p.value_width, p.value_width);
    }

    for (int r = 0; r < ROWS_OF_WARP; r++) {
        Int row = warp * ROWS_OF_WARP + r;
        if (row >= count) continue;
        Int query = group.query(first + row);
        if (results.parts > 1) {
            A* to = results.of_part(p, query);
            for (int c = 0; c < COLUMNS; c++)
                if (lane + 32 * c < p.value_width) to[lane + 32 * c] = result[r][c];
            if (lane == 0) to[p.value_width] = high[r], to[p.value_width + 1] = sum[r];
            continue;
        }
        A scale = sum[r] == 0 ? A(0) : 1 / sum[r];
        for (int c = 0; c < COLUMNS; c++)
            if (lane + 32 * c < p.value_width)
                results.out[query * p.value_width + lane + 32 * c] = T(result[r][c] * scale);
        if (lane == 0) results.set_statistics(query, high[r], sum[r]);
    }
}
