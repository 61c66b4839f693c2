// Gradients of attention of 16-bit floats by tensor cores. Probabilities are recomputed from each
// row's largest score and the logarithm of its sum (Dao 2023, "FlashAttention-2", algorithm 2).
//
//     p = e^(score - high - log_sum)        gv = p^T g
//     delta = sum(g * out) of a row         ds = p (g v^T - delta) (1 - (score / softcap)^2)
//     gq = scale ds k                       gk = scale ds^T q
//
// Two kernels; both read 16 bytes per row of queries, written by attention_statistics.cu. In the
// kernel for q, a block has rows and loops over the keys, as in the forward kernel. In the kernel
// for k and v, a block has keys, loops over the rows of all heads that share them, and computes
// everything transposed, so that probabilities are in the registers of the lanes that need them. So
// scores are computed twice: 7 matrix products instead of 5. But there are no atomic additions, and
// gradients are deterministic.
//
// With few rows, as for one query per head, the first kernel splits the keys into parts
// (gridDim.z), whose float32 gradients for q are summed later; otherwise one block per group would
// read all of its keys. Apart from the products, a score costs two multiply-adds, an exponential, a
// multiplication and, for k and v, a subtraction. Bytes: a block's rows once, the other side once
// for each block, mostly from the L2 cache. Tiles of the other side are double-buffered.
#include "attention_gradients.cuh"

// gq (B, H, T, D), of any strides; with several parts of the keys, `partial`.
template <class T, int HEAD, int M, int KEYS>
__device__ void query_grad(const T* g, Int g_batch, Int g_head, Int g_row, const T* q, Int q_batch,
                           Int q_head, Int q_row, const T* k, const T* v, const void* mask,
                           const float4* statistics, T* gq, Int gq_batch, Int gq_head, Int gq_row,
                           float* partial, const Problem& p) {
    constexpr int ROWS_OF_BLOCK = WARPS * 16 * M, TILE_SIZE = KEYS * pitch<HEAD>;
    extern __shared__ uint4 memory[];
    T* q_tile = reinterpret_cast<T*>(memory);
    T* g_tile = q_tile + ROWS_OF_BLOCK * pitch<HEAD>;
    T* k_tiles = g_tile + ROWS_OF_BLOCK * pitch<HEAD>;
    T* v_tiles = k_tiles + 2 * TILE_SIZE;
    const Group group(p);
    const RowsOfBlock<ROWS_OF_BLOCK> rows(tile_of_block(p.causal), p.group_rows());
    const int first = rows.first, count = rows.count, of_warp = rows.of_warp, here = rows.here;
    const int row = rows.row(), lane = threadIdx.x % 32;

    Int begin, end;
    int from, until;
    key_range(p, first, rows.last(), begin, end);
    part_of_keys<KEYS>(begin, end, gridDim.z, from, until);
    const T *keys = k + group.k_offset(), *values = v + group.v_offset();
    auto load = [&](int key, int place) {
        load_rows_apart<HEAD, KEYS>(k_tiles + place * TILE_SIZE, until - key, int(p.width),
                                    keys + key * p.k_row, p.k_row);
        load_rows_apart<HEAD, KEYS>(v_tiles + place * TILE_SIZE, until - key, int(p.value_width),
                                    values + key * p.v_row, p.v_row);
    };
    load_tile<HEAD, ROWS_OF_BLOCK>(q_tile, count, int(p.width),
                                   GroupRows<const T>(q, q_batch, q_head, q_row, group, first));
    load_tile<HEAD, ROWS_OF_BLOCK>(g_tile, count, int(p.value_width),
                                   GroupRows<const T>(g, g_batch, g_head, g_row, group, first));
    if (from < until) load(from, 0);
    cp_async_commit();

    const Scaling scaling(p);
    float4 of_row[M][2];
    float result[M][HEAD / 8][4] = {};
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int r = min(of_warp + 16 * m + 8 * half + lane / 4, count - 1);
            of_row[m][half] = statistics[group.query(first + r)];
        }
    int clear_from = 0, clear_until = 0;  // keys that all rows of this warp see
    if (here > 0) seen_by_all(p, row, row + here - 1, clear_from, clear_until);
    int place = 0;
    for (int key = from; key < until; key += KEYS, place ^= 1) {
        cp_async_wait<0>();
        __syncthreads();  // this tile is loaded; the previous one is no longer read
        if (key + KEYS < until) load(key + KEYS, place ^ 1);
        cp_async_commit();
        if (here <= 0) continue;
        float score[M][KEYS / 8][4], dot[M][KEYS / 8][4];
        row_products<HEAD>(score, TileRows<HEAD, T>(q_tile + of_warp * pitch<HEAD>),
                           k_tiles + place * TILE_SIZE);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) dot[m][n][i] = -of_row[m][i / 2].z;
        add_row_products<HEAD>(dot, TileRows<HEAD, T>(g_tile + of_warp * pitch<HEAD>),
                               v_tiles + place * TILE_SIZE);
        scaling.apply(score);
        differentiate_cap(dot, score, scaling.softcap, [](int, int, int) { return 0.f; });
        if (key < clear_from || key + KEYS > clear_until)
            mask_scores<T>(score, group, mask, row, key);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    dot[m][n][i] *= probability(score[m][n][i], scaling.later, of_row[m][i / 2]);
        add_weighted<HEAD>(result, dot, k_tiles + place * TILE_SIZE);
    }
    cp_async_wait<0>();
    __syncthreads();  // queries are loaded, if there were no keys
    if (here <= 0) return;
    if (gridDim.z > 1)
        store_part(partial, group, row, here, result, float(p.scale));
    else
        store_rows<HEAD>(GroupRows<T>(gq, gq_batch, gq_head, gq_row, group, row), int(p.width), here,
                         result, float(p.scale), q_tile + of_warp * pitch<HEAD>);
}

// gk (B, Hk, S, D) and gv (B, Hk, S, E), of any strides. Only one is computed if KEYS or VALUES is
// false: for wide heads, a warp does not have enough registers for both.
template <class T, int HEAD, int M, int QUERIES, bool KEYS, bool VALUES>
__device__ void key_grad(const T* g, Int g_batch, Int g_head, Int g_row, const T* q, Int q_batch,
                         Int q_head, Int q_row, const T* k, const T* v, const void* mask,
                         const float4* statistics, T* gk, Int gk_batch, Int gk_head, Int gk_row, T* gv,
                         Int gv_batch, Int gv_head, Int gv_row, const Problem& p) {
    constexpr int ROWS_OF_BLOCK = WARPS * 16 * M, TILE_SIZE = QUERIES * pitch<HEAD>;
    extern __shared__ uint4 memory[];
    T* k_tile = reinterpret_cast<T*>(memory);
    T* v_tile = k_tile + ROWS_OF_BLOCK * pitch<HEAD>;
    T* q_tiles = v_tile + ROWS_OF_BLOCK * pitch<HEAD>;
    T* g_tiles = q_tiles + 2 * TILE_SIZE;
    const Group group(p);
    const RowsOfBlock<ROWS_OF_BLOCK> own(blockIdx.x, p.keys);
    const int first = own.first, count = own.count, of_warp = own.of_warp, here = own.here;
    const int key = own.row(), lane = threadIdx.x % 32;

    auto load = [&](const RowTiles<QUERIES>& rows, int place) {
        T* to = q_tiles + place * TILE_SIZE;
        const GroupRows<const T> of_q(q, q_batch, q_head, q_row, group, rows.head, rows.t);
        const GroupRows<const T> of_g(g, g_batch, g_head, g_row, group, rows.head, rows.t);
        const int there = rows.count(), i = threadIdx.x;
        load_rows_apart<HEAD, QUERIES>(to, there, int(p.width), of_q(0), q_row);
        load_rows_apart<HEAD, QUERIES>(g_tiles + place * TILE_SIZE, there, int(p.value_width), of_g(0), g_row);
        if (i < QUERIES)  // a row's statistics follow its elements
            cp_async(to + i * pitch<HEAD> + HEAD,
                     statistics + group.query(rows.row() + min(i, there - 1)));
    };
    const T *keys = k + group.k_offset(), *values = v + group.v_offset();
    load_tile<HEAD, ROWS_OF_BLOCK>(k_tile, count, int(p.width),
                                   [&](int i) { return keys + (first + i) * p.k_row; });
    load_tile<HEAD, ROWS_OF_BLOCK>(v_tile, count, int(p.value_width),
                                   [&](int i) { return values + (first + i) * p.v_row; });
    RowTiles<QUERIES> tile(p, first, own.last());
    int place = 0;
    if (tile.there()) load(tile, 0);
    cp_async_commit();

    const Scaling scaling(p);
    float of_key[M][KEYS ? HEAD / 8 : 1][4] = {}, of_value[M][VALUES ? HEAD / 8 : 1][4] = {};
    for (; tile.there(); tile.advance(), place ^= 1) {
        cp_async_wait<0>();
        __syncthreads();  // this tile is loaded; the previous one is no longer read
        RowTiles<QUERIES> next(tile);
        next.advance();
        if (next.there()) load(next, place ^ 1);
        cp_async_commit();
        if (here <= 0) continue;
        const T *q_tile = q_tiles + place * TILE_SIZE, *g_tile = g_tiles + place * TILE_SIZE;
        auto of_row = [&](int, int n, int i) -> const float4& {
            const T* at = q_tile + (8 * n + lane % 4 * 2 + i % 2) * pitch<HEAD> + HEAD;
            return *reinterpret_cast<const float4*>(at);
        };
        float score[M][QUERIES / 8][4], dot[M][QUERIES / 8][4];
        row_products<HEAD>(score, TileRows<HEAD, T>(k_tile + of_warp * pitch<HEAD>), q_tile);
        if constexpr (KEYS)
            row_products<HEAD>(dot, TileRows<HEAD, T>(v_tile + of_warp * pitch<HEAD>), g_tile);
        scaling.apply(score);
        if constexpr (KEYS)
            differentiate_cap(dot, score, scaling.softcap,
                              [&](int m, int n, int i) { return of_row(m, n, i).z; });
        if (!tile.see_all(key, key + 16 * M - 1))
            mask_transposed<T>(score, group, mask, tile, key);
        probabilities(score, scaling.later, of_row);
        if constexpr (KEYS) differentiate_softmax(dot, score, of_row);
        if constexpr (VALUES) add_weighted<HEAD>(of_value, score, g_tile);
        if constexpr (KEYS) add_weighted<HEAD>(of_key, dot, q_tile);
    }
    cp_async_wait<0>();
    __syncthreads();  // keys are loaded, if there were no rows
    if (here <= 0) return;
    if constexpr (KEYS) {
        gk += group.batch * gk_batch + group.key_head * gk_head + key * gk_row;
        store_rows<HEAD>([=](int i) { return gk + i * gk_row; }, int(p.width), here, of_key,
                         float(p.scale), k_tile + of_warp * pitch<HEAD>);
    }
    if constexpr (VALUES) {
        gv += group.batch * gv_batch + group.key_head * gv_head + key * gv_row;
        store_rows<HEAD>([=](int i) { return gv + i * gv_row; }, int(p.value_width), here, of_value, 1.f,
                         v_tile + of_warp * pitch<HEAD>);
    }
}

#define GRADIENT_OF_QUERIES(HEAD, M, KEYS, NAME, T)                                            \
    extern "C" __global__ void __launch_bounds__(128, 2)                                       \
        flash_attention_grad_query_##HEAD##_##NAME(GIVEN(T), OF_QUERIES(T), PROBLEM_PARAMETERS) { \
        query_grad<T, HEAD, M, KEYS>(GIVE, GIVE_QUERIES, PROBLEM);                             \
    }
// For wide heads, blocks with blockIdx.z 0 compute gk, those with 1 gv.
#define GRADIENTS_OF_KEYS(HEAD, M, QUERIES, NAME, T)                                         \
    extern "C" __global__ void __launch_bounds__(128, 2)                                     \
        flash_attention_grad_key_##HEAD##_##NAME(GIVEN(T), OF_KEYS(T), PROBLEM_PARAMETERS) { \
        if constexpr (HEAD <= 128)                                                           \
            key_grad<T, HEAD, M, QUERIES, true, true>(GIVE, GIVE_KEYS, PROBLEM);             \
        else if (blockIdx.z == 0)                                                            \
            key_grad<T, HEAD, M, QUERIES, true, false>(GIVE, GIVE_KEYS, PROBLEM);            \
        else                                                                                 \
            key_grad<T, HEAD, M, QUERIES, false, true>(GIVE, GIVE_KEYS, PROBLEM);            \
    }
#define EXPORT(NAME, T)                                                                            \
    GRADIENT_OF_QUERIES(32, 2, 32, NAME, T)                                                        \
    GRADIENT_OF_QUERIES(64, 2, 32, NAME, T)                                                        \
    GRADIENT_OF_QUERIES(96, 1, 32, NAME, T)                                                        \
    GRADIENT_OF_QUERIES(128, 1, 32, NAME, T)                                                       \
    GRADIENT_OF_QUERIES(192, 1, 16, NAME, T)                                                       \
    GRADIENT_OF_QUERIES(256, 1, 16, NAME, T)                                                       \
    GRADIENTS_OF_KEYS(32, 1, 64, NAME, T)                                                          \
    GRADIENTS_OF_KEYS(64, 1, 64, NAME, T)                                                          \
    GRADIENTS_OF_KEYS(96, 1, 32, NAME, T)                                                          \
    GRADIENTS_OF_KEYS(128, 1, 32, NAME, T)                                                         \
    GRADIENTS_OF_KEYS(192, 1, 16, NAME, T)                                                         \
    GRADIENTS_OF_KEYS(256, 1, 16, NAME, T)
FOR_EACH_HALF(EXPORT)
