// Attention of 16-bit floats by the tensor cores of an H100: the formula, masks, parts and results of
// flash_attention.cu, with products by warpgroups (warpgroups.cuh).
//
// mma.sync has each warp load its operands into registers first, by an ldmatrix for every four
// products, and issues at most two thirds of what an H100's tensor cores can do. A warpgroup's product
// is one instruction for 64 rows and up to 128 columns that reads keys and values where they lie. So a
// block of two warpgroups, 64 rows each, shares a tile of keys; while one of them takes powers, the
// other one's products run.
//
// Of B H T S (D + E) multiplications, per tile of 64 keys and warpgroup: at 128 columns 16 products of
// 64 x 64 x 16 (or 8 of twice the width), 512 cycles of the multiprocessor's tensor cores; a lane has 32
// scores, each of which costs a multiply-add, an exponential, an addition and a maximum. Shared memory:
// rows and keys are read once for each product of scores, values once for each of results, at most 128
// bytes a cycle. Memory: q and out once, k and v once for each 128 rows, mostly from the L2 cache.
#include "flash_attention.cuh"
#include "warpgroup_tiles.cuh"

#ifndef PIPELINED
#define PIPELINED 0
#endif

template <class T, int HEAD, int GROUPS, int KEYS>
__device__ void warpgroup_attention(const T* q, Int q_batch, Int q_head, Int q_row,
                                    const Arrays<T>& source, const Group& group,
                                    const Results<T>& results, void* memory) {
    constexpr int ROWS_OF_BLOCK = GROUPS * ROWS_OF_GROUP, BY = GROUPS * THREADS_OF_GROUP;
    const Problem& p = group.problem;
    T* q_tile = static_cast<T*>(memory);
    T* tiles_of_keys = q_tile + ROWS_OF_BLOCK * HEAD;  // keys and values, of this tile and the next
    // Causal rows that come late see the most keys: their blocks begin first.
    const int tile = int(p.causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    const int first = tile * ROWS_OF_BLOCK, count = min(ROWS_OF_BLOCK, int(p.group_rows()) - first);
    const int of_group = threadIdx.x / THREADS_OF_GROUP * ROWS_OF_GROUP;
    const int of_warp = threadIdx.x / 32 * 16, here = min(16, count - of_warp), row = first + of_warp;

    Int begin, end;
    source.narrow(first, first + count - 1, begin, end);
    const int tiles = (max(int(end - begin), 0) + KEYS - 1) / KEYS, parts = int(results.parts);
    const int of_part = (tiles + parts - 1) / parts * KEYS;
    const int from = int(begin) + int(blockIdx.z) * of_part, until = min(int(end), from + of_part);
    int sees_from = 0, sees_until = 0;  // this warpgroup
    if (count > of_group) {
        source.narrow(first + of_group, first + min(of_group + ROWS_OF_GROUP, count) - 1, begin, end);
        sees_from = int(begin), sees_until = int(end);
    }
    int clear_from = 0, clear_until = 0;  // what all rows of this warp see
    if (here > 0) source.seen_by_all(row, row + here - 1, clear_from, clear_until);

#if PIPELINED
    T* tiles_of_values = tiles_of_keys + 2 * KEYS * HEAD;
    auto load_keys = [&](int key, int place) {
        if (key < until)
            load_panels<HEAD, KEYS, BY>(tiles_of_keys + KEYS * HEAD * place, until - key, int(p.width),
                                        source.keys + key * p.k_row, p.k_row);
    };
    auto load_values = [&](int key, int place) {
        if (key < until)
            load_panels<HEAD, KEYS, BY>(tiles_of_values + KEYS * HEAD * place, until - key,
                                        int(p.value_width), source.values + key * p.v_row, p.v_row);
    };
    auto sees = [&](int key) { return key < min(sees_until, until) && key + KEYS > sees_from; };
    load_group_panels<HEAD, ROWS_OF_BLOCK, BY>(
        q_tile, count, int(p.width), GroupRows<const T>(q, q_batch, q_head, q_row, group, first));
    load_keys(from, 0);
    cp_async_commit();
    load_keys(from + KEYS, 1);
    load_values(from, 0);
    cp_async_commit();

    const Scaling scaling(p);
    Softmax<1, HEAD> softmax;
    const T* q_rows = q_tile + of_group * 64;
    float score[1][KEYS / 8][4];
    cp_async_wait<1>();
    fence_shared();
    __syncthreads();  // the queries and the first keys came
    if (sees(from)) {
        warpgroup_begin();
        begin_row_products<HEAD, ROWS_OF_BLOCK>(score[0], q_rows, tiles_of_keys);
        warpgroup_commit();
        warpgroup_wait<0>();
        arrived(score[0]);
    }
    int place = 0;
    for (int key = from; key < until; key += KEYS, place ^= 1) {
        cp_async_wait<0>();
        fence_shared();
        __syncthreads();  // the next keys and these values came; these keys and the last values were read
        load_keys(key + 2 * KEYS, place);
        load_values(key + KEYS, place ^ 1);
        cp_async_commit();
        float next[KEYS / 8][4];
        if (sees(key + KEYS)) {
            warpgroup_begin();
            begin_row_products<HEAD, ROWS_OF_BLOCK>(next, q_rows, tiles_of_keys + KEYS * HEAD * (place ^ 1));
            warpgroup_commit();
        }
        if (sees(key)) {
            scaling.apply(score);
            if (key < clear_from || key + KEYS > clear_until) source.mask(score, row, key, until);
            softmax.take(score, scaling.later);
            unsigned weights[KEYS / 16][4];
            rounded<T>(weights, score[0]);
            warpgroup_begin();
            begin_add_weighted<HEAD, T, KEYS / 8>(softmax.out[0], weights,
                                                  tiles_of_values + KEYS * HEAD * place);
            warpgroup_commit();
        }
        warpgroup_wait<0>();
        arrived(softmax.out[0]);
        arrived(next);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[0][n][i] = next[n][i];
    }
#else
    auto load = [&](int key, int place) {
        T* to = tiles_of_keys + 2 * KEYS * HEAD * place;
        load_panels<HEAD, KEYS, BY>(to, until - key, int(p.width), source.keys + key * p.k_row, p.k_row);
        load_panels<HEAD, KEYS, BY>(to + KEYS * HEAD, until - key, int(p.value_width),
                                    source.values + key * p.v_row, p.v_row);
    };
    load_group_panels<HEAD, ROWS_OF_BLOCK, BY>(
        q_tile, count, int(p.width), GroupRows<const T>(q, q_batch, q_head, q_row, group, first));
    if (from < until) load(from, 0);
    cp_async_commit();

    const Scaling scaling(p);
    Softmax<1, HEAD> softmax;
    int place = 0;
    for (int key = from; key < until; key += KEYS, place ^= 1) {
        const T* k_tile = tiles_of_keys + 2 * KEYS * HEAD * place;
        cp_async_wait<0>();
        fence_shared();
        __syncthreads();  // this tile came; the one before was read
        if (key + KEYS < until) load(key + KEYS, place ^ 1);
        cp_async_commit();
        if (key >= sees_until || key + KEYS <= sees_from) continue;
        float score[1][KEYS / 8][4];
        warpgroup_begin();
        begin_row_products<HEAD, ROWS_OF_BLOCK>(score[0], q_tile + of_group * 64, k_tile);
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
#endif
    cp_async_wait<0>();
    __syncthreads();  // the queries came, where no key did, and were read
    if (here > 0)
        write(softmax, results, group, row, here, scaling.later, [&] {
            store_panel_rows<HEAD, ROWS_OF_BLOCK>(
                GroupRows<T>(results.out, results.batch, results.head, results.row, group, row),
                int(p.value_width), here, softmax.out[0], 1.f, q_tile, of_warp);
        });
}

#define FORWARD(HEAD, GROUPS, KEYS, BLOCKS, NAME, T)                                             \
    extern "C" __global__ void __launch_bounds__(128 * GROUPS, BLOCKS)                           \
        warpgroup_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,      \
            const T* k, const T* v, const void* mask, T* out, Int out_batch, Int out_head,       \
            Int out_row, float* high, float* log_sum, float* partial, Int parts,                 \
            PROBLEM_PARAMETERS) {                                                                \
        extern __shared__ Panel memory[];                                                        \
        SOURCE_OF_ARRAYS(T)                                                                      \
        const Results<T> results{out, high, log_sum, partial, parts, out_batch, out_head, out_row}; \
        warpgroup_attention<T, HEAD, GROUPS, KEYS>(q, q_batch, q_head, q_row, source, group,     \
                                                   results, memory);                             \
    }
#define EXPORT(NAME, T)               \
    FORWARD(64, 2, 64, 2, NAME, T)    \
    FORWARD(128, 2, 128, 1, NAME, T)
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
FOR_EACH_HALF(EXPORT)
#endif
