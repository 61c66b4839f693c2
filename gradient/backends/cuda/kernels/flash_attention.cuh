// FlashAttention-2 of a block's rows to the keys of a source: shared by flash_attention.cu and
// flash_cached_attention.cu. `scattered` sources compute in advance where each key of a tile is:
// `places` in shared memory, after the tiles.
#pragma once
#include "attention_softmax.cuh"
#include "attention_sources.cuh"

// Writes the first `count` of the warp's rows, from row `first` of its group on. `store()` writes
// of.out if there is only one part.
template <class T, int HEAD, int M, class F>
__device__ void write(Softmax<M, HEAD>& of, const Results<T>& results, const Group& group, int first,
                      int count, float later, F store) {
    const Problem& p = group.problem;
    const Int query = group.query(first);
    const int lane = threadIdx.x % 32, width = int(p.value_width);
    of.add_up(later);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = 16 * m + 8 * half + lane / 4;
            const float high = of.high[m][half], sum = of.sum[m][half];
            if (results.parts > 1) {
                if (row >= count) continue;
                float* to = results.of_part(p, query + row);
#pragma unroll
                for (int n = 0; n < HEAD / 8; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int column = 8 * n + lane % 4 * 2 + i;
                        if (column < width) to[column] = of.out[m][n][2 * half + i];
                    }
                if (lane % 4 == 0) to[width] = high, to[width + 1] = sum;
                continue;
            }
            const float scale = sum == 0 ? 0.f : 1 / sum;
#pragma unroll
            for (int n = 0; n < HEAD / 8; n++)
                of.out[m][n][2 * half] *= scale, of.out[m][n][2 * half + 1] *= scale;
            if (lane % 4 == 0 && row < count) results.set_statistics(query + row, high, sum);
        }
    if (results.parts == 1) store();
}

template <class T, int HEAD, int M, int KEYS, class SOURCE>
__device__ void flash_attention(const T* q, Int q_batch, Int q_head, Int q_row, const SOURCE& source,
                                const Group& group, const Results<T>& results, void* memory) {
    constexpr int ROWS_OF_BLOCK = WARPS * 16 * M;
    const Problem& p = group.problem;
    T* q_tile = reinterpret_cast<T*>(memory);
    T* tiles_of_keys = q_tile + ROWS_OF_BLOCK * pitch<HEAD>;  // keys and values, of this tile and the next
    // Locations of keys in a cache: of the next tile and of the one after it.
    Int* places = reinterpret_cast<Int*>(tiles_of_keys + 4 * KEYS * pitch<HEAD>);
    const RowsOfBlock<ROWS_OF_BLOCK> rows(tile_of_block(SOURCE::in_order(p)), p.group_rows());
    const int first = rows.first, count = rows.count, here = rows.here, row = rows.row();
    T* own_rows = q_tile + rows.of_warp * pitch<HEAD>;

    Int begin, end;
    int from, until;
    source.narrow(first, rows.last(), begin, end);
    part_of_keys<KEYS>(begin, end, results.parts, from, until);
    int sees_from = 0, sees_until = 0;  // keys that this warp's rows see
    if (here > 0) {
        source.narrow(row, row + here - 1, begin, end);
        sees_from = int(begin), sees_until = int(end);
    }
    int clear_from = 0, clear_until = 0;  // keys that all rows of this warp see
    if (here > 0) source.seen_by_all(row, row + here - 1, clear_from, clear_until);
    clear_until = min(clear_until, until);

    auto find = [&](int key, int place) {
        if (SOURCE::scattered && threadIdx.x < KEYS)
            places[place * KEYS + threadIdx.x] = source.at(min(key + int(threadIdx.x), until - 1));
    };
    auto load = [&](int key, int place) {
        T* tile = tiles_of_keys + 2 * KEYS * pitch<HEAD> * place;
        auto at = [=](int i) { return places[place * KEYS + i]; };
        source.template load_keys<HEAD, KEYS, THREADS>(tile, key, until - key, at);
        source.template load_values<HEAD, KEYS, THREADS>(tile + KEYS * pitch<HEAD>, key, until - key, at);
    };
    if (from < until) find(from, 0);
    if (from + KEYS < until) find(from + KEYS, 1);
    if (SOURCE::scattered) __syncthreads();  // `places` are written
    load_tile<HEAD, ROWS_OF_BLOCK>(q_tile, count, int(p.width),
                                   GroupRows<const T>(q, q_batch, q_head, q_row, group, first));
    if (from < until) load(from, 0);
    cp_async_commit();

    cp_async_wait<0>();
    __syncthreads();  // queries are loaded
    // In registers, if the warp's sums leave enough of them.
    typedef typename Either<(M * HEAD <= 128), HeldRows<HEAD, T, M>, TileRows<HEAD, T>>::type Queries;
    const Queries queries(own_rows);
    const Scaling scaling(p);
    Softmax<M, HEAD> softmax;
    int place = 0;
    for (int key = from; key < until; key += KEYS, place ^= 1) {
        const T* k_tile = tiles_of_keys + 2 * KEYS * pitch<HEAD> * place;
        cp_async_wait<0>();
        __syncthreads();  // this tile is loaded; the previous one is no longer read
        if (key + KEYS < until) load(key + KEYS, place ^ 1);
        cp_async_commit();
        if (key + 2 * KEYS < until) find(key + 2 * KEYS, place);
        if (here <= 0 || key >= sees_until || key + KEYS <= sees_from) continue;
        float score[M][KEYS / 8][4];
        row_products<HEAD>(score, queries, k_tile);
        scaling.apply(score);
        if (key < clear_from || key + KEYS > clear_until) source.mask(score, row, key, until);
        softmax.take(score, scaling.later);
        add_weighted<HEAD>(softmax.out, score, k_tile + KEYS * pitch<HEAD>);
    }
    if (here > 0)
        write(softmax, results, group, row, here, scaling.later, [&] {
            store_rows<HEAD>(GroupRows<T>(results.out, results.batch, results.head, results.row, group, row),
                             int(p.value_width), here, softmax.out, 1.f, own_rows);
        });
}

// FLASH(columns, m16 tiles per warp, keys per tile, ...) for each head size.
#define EACH_HEAD(FLASH, NAME, T) \
    FLASH(32, 2, 64, NAME, T)     \
    FLASH(64, 2, 64, NAME, T)     \
    FLASH(96, 2, 32, NAME, T)     \
    FLASH(128, 2, 32, NAME, T)    \
    FLASH(192, 1, 32, NAME, T)    \
    FLASH(256, 1, 16, NAME, T)
