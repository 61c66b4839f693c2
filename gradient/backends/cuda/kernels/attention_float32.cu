// Attention of float32: softmax(scale q k^T + mask) v, without a (T, S) array (Dao 2023,
// "FlashAttention-2", algorithm 1), in float32 throughout.
//
//     score = softcap tanh(scale q k^T / softcap), -inf where masked
//     high  = the largest score of a row so far, sum = of e^(score - high), out = of e^(score - high) v
//
// A block computes 128 rows of a group of heads that share their keys (64 for heads of more than 64
// columns), a quarter of them per warp, and loops over the keys in tiles of 64 (32). A block skips
// tiles that none of its rows sees, and so does each warp. Values are copied to shared memory while
// scores are computed, and the next keys while values are summed. With causal masks late rows see
// the most keys, so their blocks start first. Grid: (row tiles, B * Hk, parts of the keys);
// `join_parts` (attention.cu) combines the parts.
//
// Bytes: q and out once, k and v once for each row tile, mostly from the L2 cache. Arithmetic is
// the bound: B H T S (D + E) multiply-adds. A lane does 256 for each 16 loads of 16 bytes from
// shared memory, or 8192 per tile, and besides 64 exponentials and about 600 other instructions.
// Rows must be whole packs of 16 bytes, of up to 128 columns; attention.cu computes the others.
#include "attention_float32.cuh"

template <int HEAD, int R, int KEYS>
__device__ void attend_floats(const float* q, Int q_batch, Int q_head, Int q_row, const float* k,
                              const float* v, const void* mask, const Results<float>& results,
                              const Problem& p) {
    constexpr int ROWS_OF_WARP = 4 * R, ROWS_OF_BLOCK = WARPS * ROWS_OF_WARP, J = KEYS / 8;
    extern __shared__ float4 memory[];
    float* q_tile = reinterpret_cast<float*>(memory);
    float* k_tile = q_tile + ROWS_OF_BLOCK * float_pitch<HEAD>;
    float* v_tile = k_tile + KEYS * float_pitch<HEAD>;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float* piece = v_tile + KEYS * float_pitch<HEAD> + warp * ROWS_OF_WARP * PIECE_PITCH;
    const Group group(p);
    const RowsOfBlock<ROWS_OF_BLOCK> rows(tile_of_block(p.causal), p.group_rows());
    const int first = rows.first, count = rows.count, here = rows.here, row = rows.row();

    Int begin, end;
    int from, until;
    key_range(p, first, rows.last(), begin, end);
    part_of_keys<KEYS>(begin, end, results.parts, from, until);
    int sees_from = 0, sees_until = 0;  // keys that this warp's rows see
    if (here > 0) {
        key_range(p, row, row + here - 1, begin, end);
        sees_from = int(begin), sees_until = int(end);
    }

    const float *keys = k + group.k_offset(), *values = v + group.v_offset();
    auto load_keys = [&](int key) {
        load_floats<HEAD, KEYS>(k_tile, until - key, int(p.width),
                                [&](int i) { return keys + (key + i) * p.k_row; });
    };
    load_floats<HEAD, ROWS_OF_BLOCK>(q_tile, count, int(p.width),
                                     GroupRows<const float>(q, q_batch, q_head, q_row, group, first));
    if (from < until) load_keys(from);
    cp_async_commit();

    // `high`: the largest score of row i, where i is the lane's number among its 8 lanes.
    float high = -infinity<float>(), sum[R], out[R][HEAD / 8];
#pragma unroll
    for (int i = 0; i < R; i++) {
        sum[i] = 0;
#pragma unroll
        for (int n = 0; n < HEAD / 8; n++) out[i][n] = 0;
    }
    for (int key = from; key < until; key += KEYS) {
        const bool seen = here > 0 && key < sees_until && key + KEYS > sees_from;
        float score[R][J];
        cp_async_wait<0>();
        __syncthreads();  // keys are loaded; previous values are no longer read
        load_floats<HEAD, KEYS>(v_tile, until - key, int(p.value_width),
                                [&](int i) { return values + (key + i) * p.v_row; });
        cp_async_commit();
        if (seen)
            float_products<HEAD>(score, lane_rows<HEAD, R>(q_tile), lane_columns<HEAD>(k_tile),
                                 int(p.width));
        cp_async_wait<0>();
        __syncthreads();  // values are loaded; the keys are no longer read
        if (key + KEYS < until) load_keys(key + KEYS);
        cp_async_commit();
        if (!seen) continue;
        cap_floats(score, p);
        if (!sees_all(p, row, row + ROWS_OF_WARP - 1, key, key + KEYS - 1))
            mask_floats(score, group, mask, row + lane / 8, key + lane % 8);
#pragma unroll
        for (int i = 0; i < R; i++) {
            const float before = __shfl_sync(0xffffffffu, high, i, 8);
            float largest = before;
#pragma unroll
            for (int j = 0; j < J; j++) largest = fmaxf(largest, score[i][j]);
#pragma unroll
            for (int distance = 1; distance < 8; distance *= 2)
                largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
            const float most = largest == -infinity<float>() ? 0.f : largest;
            const float shrink = power_of_two((before - most) * LOG2_E);
            if (lane % 8 == i) high = largest;
            sum[i] *= shrink;
#pragma unroll
            for (int j = 0; j < J; j++) {
                score[i][j] = power_of_two((score[i][j] - most) * LOG2_E);
                sum[i] += score[i][j];
            }
#pragma unroll
            for (int n = 0; n < HEAD / 8; n++) out[i][n] *= shrink;
        }
        add_weighted_floats<HEAD>(out, score, v_tile, piece);
    }

    const Int width = p.value_width, parts = results.parts;
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2)
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], distance);
        const float largest = __shfl_sync(0xffffffffu, high, i, 8);
        const int r = lane / 8 + 4 * i;
        if (r >= here) continue;
        const Int query = group.query(row + r);
        float* to = parts > 1 ? results.of_part(p, query) : results.out + query * width;
        const float scale = parts > 1 ? 1.f : sum[i] == 0 ? 0.f : 1 / sum[i];
#pragma unroll
        for (int n = 0; n < HEAD / 8; n++) out[i][n] *= scale;
#pragma unroll
        for (int n = 0; n < HEAD / 32; n++) {
            const int column = lane % 8 * 4 + 32 * n;
            if (column >= width) continue;
            if (parts > 1) {  // parts may be unaligned
#pragma unroll
                for (int c = 0; c < 4; c++) to[column + c] = out[i][4 * n + c];
            } else {
                *reinterpret_cast<float4*>(to + column) = make_float4(
                    out[i][4 * n], out[i][4 * n + 1], out[i][4 * n + 2], out[i][4 * n + 3]);
            }
        }
        if (lane % 8 > 0) continue;
        if (parts > 1)
            to[width] = largest, to[width + 1] = sum[i];
        else
            results.set_statistics(query, largest, sum[i]);
    }
}

#define ATTENTION(HEAD, R, KEYS, NAME)                                                             \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_block_##HEAD##_##NAME(          \
        const float* q, Int q_batch, Int q_head, Int q_row, const float* k, const float* v,        \
        const void* mask, float* out, float* high, float* log_sum, float* partial, Int parts,      \
        PROBLEM_PARAMETERS) {                                                                      \
        attend_floats<HEAD, R, KEYS>(q, q_batch, q_head, q_row, k, v, mask,                        \
                                     Results<float>{out, high, log_sum, partial, parts}, PROBLEM); \
    }
#define EXPORT(NAME, T)         \
    ATTENTION(64, 8, 64, NAME)  \
    ATTENTION(128, 4, 32, NAME)
FOR_FLOAT32(EXPORT)
