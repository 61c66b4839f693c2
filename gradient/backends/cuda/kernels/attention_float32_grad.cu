// Gradients of attention in float32. Probabilities are recomputed from each row's largest score and
// the logarithm of its sum (Dao 2023, "FlashAttention-2", algorithm 2).
//
//     p = e^(score - high - log_sum)        gv = p^T g
//     delta = sum(g * out) of a row         ds = p (g v^T - delta) (1 - (score / softcap)^2)
//     gq = scale ds k                       gk = scale ds^T q
//
// Two kernels, as in flash_attention_grad.cu; both read 16 bytes per row of queries, written by
// attention_statistics.cu. In the kernel for q, a block has 64 rows and loops over the keys. In the
// kernel for k and v, a block has 64 keys, loops over the rows of all heads that share them, and
// computes everything transposed. So scores are computed twice: 7 matrix products instead of 5. But
// there are no atomic additions, and gradients are deterministic.
//
// Bytes: a block's rows once, the other side once for each 64 rows, mostly from the L2 cache.
// Arithmetic is the bound, as in the forward kernel (attention_float32.cu): a lane does 128
// multiply-adds for each 12 loads of 16 bytes from shared memory. Two blocks share a
// multiprocessor: one computes while the other waits for its tiles.
#include "attention_float32.cuh"
#include "attention_gradients.cuh"

// From scores and dots to probabilities and gradients for q k^T, without `scale`. `statistics(i,
// j)` of the row: high, log_sum to base 2, delta.
template <int R, int J, class F, class M>
__device__ void differentiate(float (&score)[R][J], float (&dot)[R][J], const Problem& p, F statistics,
                              M mask) {
    const float softcap = float(p.softcap), inverse = softcap > 0 ? 1 / softcap : 0;
    cap_floats(score, p);
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < J; j++) {
            const float of_cap = score[i][j] * inverse;
            dot[i][j] = (dot[i][j] - statistics(i, j).z) * (1 - of_cap * of_cap);
        }
    mask();
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < J; j++) {
            const float4 of = statistics(i, j);
            score[i][j] = power_of_two(fmaf(score[i][j] - of.x, LOG2_E, -of.y));
            dot[i][j] = score[i][j] == 0 ? 0.f : score[i][j] * dot[i][j];
        }
}

// Writes the first `here` of the lane's rows of the warp, times `scale`, to row_at(0), row_at(1),
// ...
template <int HEAD, int R, class F>
__device__ void store_floats(F row_at, int width, int here, const float (&values)[R][HEAD / 8], float scale) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < R; i++) {
        const int r = lane / 8 + 4 * i;
        if (r >= here) continue;
        float* to = row_at(r);
#pragma unroll
        for (int n = 0; n < HEAD / 32; n++) {
            const int column = lane % 8 * 4 + 32 * n;
            if (column < width)
                *reinterpret_cast<float4*>(to + column) =
                    make_float4(values[i][4 * n] * scale, values[i][4 * n + 1] * scale,
                                values[i][4 * n + 2] * scale, values[i][4 * n + 3] * scale);
        }
    }
}

// The statistics of a row follow its elements in a tile.
template <int HEAD> __device__ float4 statistics_of(const float* row) {
    return *reinterpret_cast<const float4*>(row + HEAD);
}
template <int HEAD, int ROOM>
__device__ void load_statistics(float* tile, const float4* statistics, const Group& group, int row, int count) {
    if (threadIdx.x < ROOM)
        cp_async(tile + threadIdx.x * float_pitch<HEAD> + HEAD,
                 statistics + group.query(row + min(int(threadIdx.x), count - 1)));
}

// gq (B, H, T, D), of any strides; with several parts of the keys, `partial`.
template <int HEAD, int R, int KEYS>
__device__ void query_grad(const float* g, Int g_batch, Int g_head, Int g_row, const float* q, Int q_batch,
                           Int q_head, Int q_row, const float* k, const float* v, const void* mask,
                           const float4* statistics, float* gq, Int gq_batch, Int gq_head, Int gq_row,
                           float* partial, const Problem& p) {
    constexpr int ROWS_OF_WARP = 4 * R, ROWS_OF_BLOCK = WARPS * ROWS_OF_WARP, J = KEYS / 8;
    constexpr int PITCH = float_pitch<HEAD>;
    extern __shared__ float4 memory[];
    float* q_tile = reinterpret_cast<float*>(memory);
    float* g_tile = q_tile + ROWS_OF_BLOCK * PITCH;
    float* k_tile = g_tile + ROWS_OF_BLOCK * PITCH;
    float* v_tile = k_tile + KEYS * PITCH;
    const RowsOfBlock<ROWS_OF_BLOCK> rows(tile_of_block(p.causal), p.group_rows());
    const int first = rows.first, count = rows.count, here = rows.here, row = rows.row();
    const int lane = threadIdx.x % 32;
    float* piece = v_tile + KEYS * PITCH + rows.of_warp * PIECE_PITCH;
    const Group group(p);

    Int begin, end;
    int from, until;
    key_range(p, first, rows.last(), begin, end);
    part_of_keys<KEYS>(begin, end, gridDim.z, from, until);
    const float *keys = k + group.k_offset(), *values = v + group.v_offset();
    load_floats<HEAD, ROWS_OF_BLOCK>(q_tile, count, int(p.width),
                                     GroupRows<const float>(q, q_batch, q_head, q_row, group, first));
    load_floats<HEAD, ROWS_OF_BLOCK>(g_tile, count, int(p.value_width),
                                     GroupRows<const float>(g, g_batch, g_head, g_row, group, first));
    load_statistics<HEAD, ROWS_OF_BLOCK>(q_tile, statistics, group, first, count);

    float result[R][HEAD / 8] = {};
    const float* own_rows = lane_rows<HEAD, R>(q_tile);
    for (int key = from; key < until; key += KEYS) {
        __syncthreads();  // previous tiles are no longer read
        load_floats<HEAD, KEYS>(k_tile, until - key, int(p.width),
                                [&](int i) { return keys + (key + i) * p.k_row; });
        load_floats<HEAD, KEYS>(v_tile, until - key, int(p.value_width),
                                [&](int i) { return values + (key + i) * p.v_row; });
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();  // tiles are loaded
        if (here <= 0) continue;
        float score[R][J], dot[R][J];
        float_products<HEAD>(score, own_rows, lane_columns<HEAD>(k_tile), int(p.width));
        float_products<HEAD>(dot, lane_rows<HEAD, R>(g_tile), lane_columns<HEAD>(v_tile),
                             int(p.value_width));
        differentiate(
            score, dot, p, [&](int i, int) { return statistics_of<HEAD>(own_rows + 4 * i * PITCH); },
            [&] {
                if (!sees_all(p, row, row + ROWS_OF_WARP - 1, key, key + KEYS - 1))
                    mask_floats(score, group, mask, row + lane / 8, key + lane % 8);
            });
        add_weighted_floats<HEAD>(result, dot, k_tile, piece);
    }
    if (here > 0 && gridDim.z > 1)
        store_floats<HEAD>([&](int i) { return of_part(partial, group, row + i); }, int(p.width), here,
                           result, float(p.scale));
    else if (here > 0)
        store_floats<HEAD>(GroupRows<float>(gq, gq_batch, gq_head, gq_row, group, row), int(p.width), here,
                           result, float(p.scale));
    cp_async_wait<0>();  // if the loop had no keys
}

// gk (B, Hk, S, D) and gv (B, Hk, S, E), of any strides.
template <int HEAD, int R, int QUERIES>
__device__ void key_grad(const float* g, Int g_batch, Int g_head, Int g_row, const float* q, Int q_batch,
                         Int q_head, Int q_row, const float* k, const float* v, const void* mask,
                         const float4* statistics, float* gk, Int gk_batch, Int gk_head, Int gk_row,
                         float* gv, Int gv_batch, Int gv_head, Int gv_row, const Problem& p) {
    constexpr int KEYS_OF_WARP = 4 * R, KEYS_OF_BLOCK = WARPS * KEYS_OF_WARP, J = QUERIES / 8;
    constexpr int PITCH = float_pitch<HEAD>;
    extern __shared__ float4 memory[];
    float* k_tile = reinterpret_cast<float*>(memory);
    float* v_tile = k_tile + KEYS_OF_BLOCK * PITCH;
    float* q_tile = v_tile + KEYS_OF_BLOCK * PITCH;
    float* g_tile = q_tile + QUERIES * PITCH;
    const RowsOfBlock<KEYS_OF_BLOCK> own(blockIdx.x, p.keys);
    const int first = own.first, count = own.count, here = own.here, key = own.row();
    const int lane = threadIdx.x % 32, rows = int(p.group_rows());
    float* piece = g_tile + QUERIES * PITCH + own.of_warp * PIECE_PITCH;
    const Group group(p);

    const float *keys = k + group.k_offset(), *values = v + group.v_offset();
    load_floats<HEAD, KEYS_OF_BLOCK>(k_tile, count, int(p.width),
                                     [&](int i) { return keys + (first + i) * p.k_row; });
    load_floats<HEAD, KEYS_OF_BLOCK>(v_tile, count, int(p.value_width),
                                     [&](int i) { return values + (first + i) * p.v_row; });

    float of_key[R][HEAD / 8] = {}, of_value[R][HEAD / 8] = {};
    const float* columns = lane_columns<HEAD>(q_tile);
    int row = next_tile<QUERIES>(p, 0, first, own.last());
    while (row < rows) {
        const int there = min(QUERIES, rows - row);
        __syncthreads();  // previous tiles are no longer read
        load_floats<HEAD, QUERIES>(q_tile, there, int(p.width),
                                   GroupRows<const float>(q, q_batch, q_head, q_row, group, row));
        load_floats<HEAD, QUERIES>(g_tile, there, int(p.value_width),
                                   GroupRows<const float>(g, g_batch, g_head, g_row, group, row));
        load_statistics<HEAD, QUERIES>(q_tile, statistics, group, row, there);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();  // tiles are loaded
        if (here > 0) {
            float score[R][J], dot[R][J];
            float_products<HEAD>(score, lane_rows<HEAD, R>(k_tile), columns, int(p.width));
            float_products<HEAD>(dot, lane_rows<HEAD, R>(v_tile), lane_columns<HEAD>(g_tile),
                                 int(p.value_width));
            differentiate(
                score, dot, p, [&](int, int j) { return statistics_of<HEAD>(columns + 8 * j * PITCH); },
                [&] {
                    if (!sees_all(p, row, row + QUERIES - 1, key, key + KEYS_OF_WARP - 1))
                        mask_transposed_floats(score, group, mask, row + lane % 8, key + lane / 8);
                });
            add_weighted_floats<HEAD>(of_value, score, g_tile, piece);
            add_weighted_floats<HEAD>(of_key, dot, q_tile, piece);
        }
        row = next_tile<QUERIES>(p, row + QUERIES, first, own.last());
    }
    cp_async_wait<0>();  // if the loop had no rows
    if (here <= 0) return;
    gk += group.batch * gk_batch + group.key_head * gk_head + key * gk_row;
    store_floats<HEAD>([=](int i) { return gk + i * gk_row; }, int(p.width), here, of_key, float(p.scale));
    gv += group.batch * gv_batch + group.key_head * gv_head + key * gv_row;
    store_floats<HEAD>([=](int i) { return gv + i * gv_row; }, int(p.value_width), here, of_value, 1.f);
}

#define GRADIENTS(HEAD, R, OTHERS, NAME)                                                             \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_block_grad_query_##HEAD##_##NAME( \
        GIVEN(float), OF_QUERIES(float), PROBLEM_PARAMETERS) {                                       \
        query_grad<HEAD, R, OTHERS>(GIVE, GIVE_QUERIES, PROBLEM);                                    \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_block_grad_key_##HEAD##_##NAME(   \
        GIVEN(float), OF_KEYS(float), PROBLEM_PARAMETERS) {                                          \
        key_grad<HEAD, R, OTHERS>(GIVE, GIVE_KEYS, PROBLEM);                                         \
    }
#define EXPORT(NAME, T)         \
    GRADIENTS(64, 4, 64, NAME)  \
    GRADIENTS(128, 4, 32, NAME)
FOR_FLOAT32(EXPORT)
