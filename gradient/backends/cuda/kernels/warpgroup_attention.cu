// Attention of 16-bit floats by the tensor cores of an H100: the formula, masks, parts and results
// of flash_attention.cu, with warpgroup products (warpgroups.cuh).
//
// With mma.sync each warp loads operands to registers first, one ldmatrix for every four products,
// and reaches at most two thirds of the speed of an H100's tensor cores. A warpgroup product is one
// instruction for 64 rows and up to 128 columns, which reads keys and values from shared memory. A
// block is one warpgroup with 64 rows; two or three blocks share a multiprocessor: while one
// computes exponentials, or waits for its first tile, another runs its products. (Blocks of two
// warpgroups halve the reads from the L2 cache, but wait for each other at each tile, and were
// slower by a quarter.)
//
// For B H T S (D + E) multiplications, per tile of 64 keys and warpgroup with 128 columns: 8
// products of 64 x 64 x 16 and 4 of twice the width, 512 cycles of the multiprocessor's tensor
// cores. A lane has 32 scores; each costs a multiply-add, an exponential, an addition and a
// maximum. Shared memory: rows and keys are read once per product of scores, values once per
// product of results, at most 128 bytes per cycle. Bytes: q and out once, k and v once for each 64
// rows, mostly from the L2 cache.
#include "flash_attention.cuh"
#include "warpgroup_tiles.cuh"

template <class T, int HEAD, int KEYS>
__device__ void warpgroup_attention(const T* q, Int q_batch, Int q_head, Int q_row,
                                    const Arrays<T>& source, const Group& group,
                                    const Results<T>& results, void* memory) {
    const Problem& p = group.problem;
    T* q_tile = static_cast<T*>(memory);
    T* tiles_of_keys = q_tile + ROWS_OF_GROUP * HEAD;  // keys and values, of this tile and the next
    const RowsOfBlock<ROWS_OF_GROUP> rows(tile_of_block(p.causal), p.group_rows());
    const int first = rows.first, count = rows.count, here = rows.here, row = rows.row();

    Int begin, end;
    source.narrow(first, rows.last(), begin, end);
    int from = int(begin), until = int(end);
    if (results.parts > 1) part_of_keys<KEYS>(begin, end, results.parts, from, until);
    auto load = [&](int key, int place) {
        T* to = tiles_of_keys + 2 * KEYS * HEAD * place;
        load_panels<HEAD, KEYS>(to, until - key, int(p.width), source.keys + key * p.k_row, p.k_row);
        load_panels<HEAD, KEYS>(to + KEYS * HEAD, until - key, int(p.value_width),
                                source.values + key * p.v_row, p.v_row);
    };
    load_group_panels<HEAD, ROWS_OF_GROUP>(
        q_tile, count, int(p.width), GroupRows<const T>(q, q_batch, q_head, q_row, group, first));
    if (from < until) load(from, 0);
    cp_async_commit();

    int clear_from = 0, clear_until = 0;  // keys that all rows of this warp see
    if (here > 0) source.seen_by_all(row, row + here - 1, clear_from, clear_until);
    const Scaling scaling(p);
    Softmax<1, HEAD> softmax;
    int place = 0;
    for (int key = from; key < until; key += KEYS, place ^= 1) {
        const T* k_tile = tiles_of_keys + 2 * KEYS * HEAD * place;
        cp_async_wait<0>();
        fence_shared();
        __syncthreads();  // this tile is loaded; the previous one is no longer read
        if (key + KEYS < until) load(key + KEYS, place ^ 1);
        cp_async_commit();
        float score[1][KEYS / 8][4];
        warpgroup_begin();
        begin_row_products<HEAD>(score[0], q_tile, k_tile);
        warpgroup_commit();
        warpgroup_wait<0>();
        arrived(score[0]);
        scaling.apply(score);
        if (key < clear_from || key + KEYS > clear_until) source.mask(score, row, key, until);
        softmax.take(score, scaling.later);
        unsigned weights[KEYS / 16][4];
        rounded<T>(weights, score[0]);
        warpgroup_begin();
        begin_add_weighted<HEAD, T, KEYS / 8>(softmax.out[0], weights, k_tile + KEYS * HEAD);
        warpgroup_commit();
        warpgroup_wait<0>();
        arrived(softmax.out[0]);
    }
    cp_async_wait<0>();
    __syncthreads();  // queries are loaded, if there were no keys, and no longer read
    if (here > 0)
        write(softmax, results, group, row, here, scaling.later, [&] {
            store_panel_rows<HEAD>(
                GroupRows<T>(results.out, results.batch, results.head, results.row, group, row),
                int(p.value_width), here, softmax.out[0], 1.f, q_tile, rows.of_warp);
        });
}

// FORWARD(columns, keys per tile, blocks per multiprocessor, ...).
#define FORWARD(HEAD, KEYS, BLOCKS, NAME, T)                                                        \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                       \
        warpgroup_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,         \
            const T* k, const T* v, const void* mask, T* out, Int out_batch, Int out_head,          \
            Int out_row, float* high, float* log_sum, float* partial, Int parts,                    \
            PROBLEM_PARAMETERS) {                                                                   \
        extern __shared__ Panel memory[];                                                           \
        SOURCE_OF_ARRAYS(T)                                                                         \
        const Results<T> results{out, high, log_sum, partial, parts, out_batch, out_head, out_row}; \
        warpgroup_attention<T, HEAD, KEYS>(q, q_batch, q_head, q_row, source, group, results,       \
                                           memory);                                                 \
    }
#define EXPORT(NAME, T)              \
    FORWARD(64, 128, 3, NAME, T)     \
    FORWARD(128, 64, 2, NAME, T)
// Compiled only for sm_90a.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
FOR_EACH_HALF(EXPORT)
#endif
