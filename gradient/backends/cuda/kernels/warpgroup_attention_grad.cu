// Gradients of attention of 16-bit floats by the tensor cores of an H100: the formulas and kernels
// of flash_attention_grad.cu, with warpgroup products (warpgroups.cuh).
//
// A block is a warpgroup with 64 rows of queries (for the gradient of q) or of keys (for those of k
// and v), and loops over tiles of 64 rows of the other side. Scores and dots are products of tiles
// in shared memory. Weights are register operands of the second products, which read the same tiles
// transposed, so nothing is transposed explicitly. Per tile, with 128 columns: 256 cycles of the
// tensor cores per product, 3 products for q and 4 for k and v. A lane's accumulators, 64 per
// gradient, and its 64 scores and dots fill its registers. Bytes: a block's rows once, the other
// side once for each 64 rows, mostly from the L2 cache.
#include "attention_gradients.cuh"
#include "warpgroup_tiles.cuh"

// score = a b^T, scaled and capped, and dot = c d^T, which is still being computed (unless there is
// a cap, by which it is then differentiated); of(m, n, i) are the statistics of the row.
template <int HEAD, class T, int N, class F>
__device__ void scores_and_dots(float (&score)[1][N][4], float (&dot)[1][N][4], const T* a, const T* b,
                                const T* c, const T* d, const Scaling& scaling, F of) {
    warpgroup_begin();
    begin_row_products<HEAD>(score[0], a, b);
    warpgroup_commit();
    begin_row_products<HEAD>(dot[0], c, d);
    warpgroup_commit();
    warpgroup_wait<1>();
    arrived(score[0]);
    scaling.apply(score);
    if (scaling.softcap > 0) {
        warpgroup_wait<0>();
        arrived(dot[0]);
        differentiate_cap(dot, score, scaling.softcap, [&](int m, int n, int i) { return of(m, n, i).z; });
    }
}

// gq (B, H, T, D), of any strides; with several parts of the keys, `partial`.
template <class T, int HEAD, int KEYS>
__device__ void query_grad(const T* g, Int g_batch, Int g_head, Int g_row, const T* q, Int q_batch,
                           Int q_head, Int q_row, const T* k, const T* v, const void* mask,
                           const float4* statistics, T* gq, Int gq_batch, Int gq_head, Int gq_row,
                           float* partial, const Problem& p) {
    constexpr int TILE_SIZE = KEYS * HEAD;
    extern __shared__ Panel memory[];
    T* q_tile = reinterpret_cast<T*>(memory);
    T* g_tile = q_tile + ROWS_OF_GROUP * HEAD;
    T* tiles_of_keys = g_tile + ROWS_OF_GROUP * HEAD;  // keys and values, of this tile and the next
    const Group group(p);
    const RowsOfBlock<ROWS_OF_GROUP> rows(tile_of_block(p.causal), p.group_rows());
    const int first = rows.first, count = rows.count, of_warp = rows.of_warp, here = rows.here;
    const int row = rows.row(), lane = threadIdx.x % 32;

    Int begin, end;
    int from, until;
    key_range(p, first, rows.last(), begin, end);
    part_of_keys<KEYS>(begin, end, gridDim.z, from, until);
    const T *keys = k + group.k_offset(), *values = v + group.v_offset();
    auto load = [&](int key, int place) {
        T* to = tiles_of_keys + 2 * TILE_SIZE * place;
        load_panels<HEAD, KEYS>(to, until - key, int(p.width), keys + key * p.k_row, p.k_row);
        load_panels<HEAD, KEYS>(to + TILE_SIZE, until - key, int(p.value_width),
                                values + key * p.v_row, p.v_row);
    };
    load_group_panels<HEAD, ROWS_OF_GROUP>(
        q_tile, count, int(p.width), GroupRows<const T>(q, q_batch, q_head, q_row, group, first));
    load_group_panels<HEAD, ROWS_OF_GROUP>(
        g_tile, count, int(p.value_width), GroupRows<const T>(g, g_batch, g_head, g_row, group, first));
    if (from < until) load(from, 0);
    cp_async_commit();

    const Scaling scaling(p);
    float4 of_row[2];
    float result[HEAD / 8][4] = {};
#pragma unroll
    for (int half = 0; half < 2; half++)
        of_row[half] = statistics[group.query(first + min(of_warp + 8 * half + lane / 4, count - 1))];
    int clear_from = 0, clear_until = 0;  // keys that all rows of this warp see
    if (here > 0) seen_by_all(p, row, row + here - 1, clear_from, clear_until);
    int place = 0;
    for (int key = from; key < until; key += KEYS, place ^= 1) {
        const T *k_tile = tiles_of_keys + 2 * TILE_SIZE * place, *v_tile = k_tile + TILE_SIZE;
        cp_async_wait<0>();
        fence_shared();
        __syncthreads();  // this tile is loaded; the previous one is no longer read
        if (key + KEYS < until) load(key + KEYS, place ^ 1);
        cp_async_commit();
        auto of = [&](int, int, int i) -> const float4& { return of_row[i / 2]; };
        float score[1][KEYS / 8][4], dot[1][KEYS / 8][4];
        scores_and_dots<HEAD>(score, dot, q_tile, k_tile, g_tile, v_tile, scaling, of);
        if (key < clear_from || key + KEYS > clear_until) mask_scores<T>(score, group, mask, row, key);
        probabilities(score, scaling.later, of);
        warpgroup_wait<0>();
        arrived(dot[0]);
        differentiate_softmax(dot, score, of);
        unsigned weights[KEYS / 16][4];
        rounded<T>(weights, dot[0]);
        warpgroup_begin();
        begin_add_weighted<HEAD, T, KEYS / 8>(result, weights, k_tile);
        warpgroup_commit();
        warpgroup_wait<0>();
        arrived(result);
    }
    cp_async_wait<0>();
    __syncthreads();  // queries are loaded, if there were no keys, and no longer read
    if (here <= 0) return;
    if (gridDim.z > 1)
        store_part(partial, group, row, here, reinterpret_cast<const float(&)[1][HEAD / 8][4]>(result),
                   float(p.scale));
    else
        store_panel_rows<HEAD>(
            GroupRows<T>(gq, gq_batch, gq_head, gq_row, group, row), int(p.width), here, result,
            float(p.scale), q_tile, of_warp);
}

// gk (B, Hk, S, D) and gv (B, Hk, S, E), of any strides.
template <class T, int HEAD, int QUERIES>
__device__ void key_grad(const T* g, Int g_batch, Int g_head, Int g_row, const T* q, Int q_batch,
                         Int q_head, Int q_row, const T* k, const T* v, const void* mask,
                         const float4* statistics, T* gk, Int gk_batch, Int gk_head, Int gk_row, T* gv,
                         Int gv_batch, Int gv_head, Int gv_row, const Problem& p) {
    constexpr int TILE_SIZE = QUERIES * HEAD;
    extern __shared__ Panel memory[];
    T* k_tile = reinterpret_cast<T*>(memory);
    T* v_tile = k_tile + ROWS_OF_GROUP * HEAD;
    T* tiles_of_rows = v_tile + ROWS_OF_GROUP * HEAD;  // q and g, of this tile and the next
    float4* statistics_of_tiles = reinterpret_cast<float4*>(tiles_of_rows + 4 * TILE_SIZE);
    const Group group(p);
    const RowsOfBlock<ROWS_OF_GROUP> own(blockIdx.x, p.keys);
    const int first = own.first, count = own.count, of_warp = own.of_warp, here = own.here;
    const int key = own.row(), lane = threadIdx.x % 32;

    auto load = [&](const RowTiles<QUERIES>& rows, int place) {
        T* to = tiles_of_rows + 2 * TILE_SIZE * place;
        const GroupRows<const T> of_q(q, q_batch, q_head, q_row, group, rows.head, rows.t);
        const GroupRows<const T> of_g(g, g_batch, g_head, g_row, group, rows.head, rows.t);
        const int there = rows.count(), i = threadIdx.x;
        load_panels<HEAD, QUERIES>(to, there, int(p.width), of_q(0), q_row);
        load_panels<HEAD, QUERIES>(to + TILE_SIZE, there, int(p.value_width), of_g(0), g_row);
        if (i < QUERIES)
            cp_async(statistics_of_tiles + place * QUERIES + i,
                     statistics + group.query(rows.row() + min(i, there - 1)));
    };
    load_panels<HEAD, ROWS_OF_GROUP>(k_tile, count, int(p.width),
                                     k + group.k_offset() + first * p.k_row, p.k_row);
    load_panels<HEAD, ROWS_OF_GROUP>(v_tile, count, int(p.value_width),
                                     v + group.v_offset() + first * p.v_row, p.v_row);
    RowTiles<QUERIES> tile(p, first, own.last());
    int place = 0;
    if (tile.there()) load(tile, 0);
    cp_async_commit();

    const Scaling scaling(p);
    float of_key[HEAD / 8][4] = {}, of_value[HEAD / 8][4] = {};
    for (; tile.there(); tile.advance(), place ^= 1) {
        const T *q_tile = tiles_of_rows + 2 * TILE_SIZE * place, *g_tile = q_tile + TILE_SIZE;
        cp_async_wait<0>();
        fence_shared();
        __syncthreads();  // this tile is loaded; the previous one is no longer read
        RowTiles<QUERIES> next(tile);
        next.advance();
        if (next.there()) load(next, place ^ 1);
        cp_async_commit();
        const float4* of_tile = statistics_of_tiles + place * QUERIES + lane % 4 * 2;
        auto of = [&](int, int n, int i) -> const float4& { return of_tile[8 * n + i % 2]; };
        float score[1][QUERIES / 8][4], dot[1][QUERIES / 8][4];
        scores_and_dots<HEAD>(score, dot, k_tile, q_tile, v_tile, g_tile, scaling, of);
        if (!tile.see_all(key, key + 15)) mask_transposed<T>(score, group, mask, tile, key);
        probabilities(score, scaling.later, of);
        unsigned of_v[QUERIES / 16][4], of_k[QUERIES / 16][4];
        rounded<T>(of_v, score[0]);
        warpgroup_wait<0>();
        arrived(dot[0]);
        warpgroup_begin();
        begin_add_weighted<HEAD, T, QUERIES / 8>(of_value, of_v, g_tile);
        warpgroup_commit();
        differentiate_softmax(dot, score, of);
        rounded<T>(of_k, dot[0]);
        warpgroup_begin();
        begin_add_weighted<HEAD, T, QUERIES / 8>(of_key, of_k, q_tile);
        warpgroup_commit();
        warpgroup_wait<0>();
        arrived(of_value);
        arrived(of_key);
    }
    cp_async_wait<0>();
    __syncthreads();  // keys are loaded, if there were no rows, and no longer read
    if (here <= 0) return;
    gk += group.batch * gk_batch + group.key_head * gk_head + key * gk_row;
    store_panel_rows<HEAD>([=](int i) { return gk + i * gk_row; }, int(p.width), here,
                           of_key, float(p.scale), k_tile, of_warp);
    gv += group.batch * gv_batch + group.key_head * gv_head + key * gv_row;
    store_panel_rows<HEAD>([=](int i) { return gv + i * gv_row; }, int(p.value_width),
                           here, of_value, 1.f, v_tile, of_warp);
}

// QUERIES_GRAD(columns, keys per tile, blocks per multiprocessor, ...).
#define QUERIES_GRAD(HEAD, KEYS, BLOCKS, NAME, T)                                                  \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                      \
        warpgroup_attention_grad_query_##HEAD##_##NAME(GIVEN(T), OF_QUERIES(T), PROBLEM_PARAMETERS) { \
        query_grad<T, HEAD, KEYS>(GIVE, GIVE_QUERIES, PROBLEM);                                    \
    }
#define KEYS_GRAD(HEAD, QUERIES, BLOCKS, NAME, T)                                                \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                    \
        warpgroup_attention_grad_key_##HEAD##_##NAME(GIVEN(T), OF_KEYS(T), PROBLEM_PARAMETERS) { \
        key_grad<T, HEAD, QUERIES>(GIVE, GIVE_KEYS, PROBLEM);                                    \
    }
#define EXPORT(NAME, T)              \
    QUERIES_GRAD(64, 64, 3, NAME, T) \
    QUERIES_GRAD(128, 64, 2, NAME, T)\
    KEYS_GRAD(64, 64, 2, NAME, T)    \
    KEYS_GRAD(128, 64, 2, NAME, T)
// Compiled only for sm_90a.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
FOR_EACH_HALF(EXPORT)
#endif
