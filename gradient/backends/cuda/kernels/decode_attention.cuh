// Attention of few queries, as in decoding, in 16-bit floats by tensor cores. Keys and values are
// arrays or a key-value cache, read in place: rows of slots or pages, of floats or int8 and int4
// codes.
//
//     out[b, h, t] = softmax_s(scale q[b, h, t] . k[b, g, s]) v[b, g, s],  g = h / (H / Hk)
//
// A block computes 16 rows of a group of heads that share their keys, with all its warps. An mma
// has 16 rows, so one query of 4 or 8 heads costs as much as one head, and a vector is read once
// for all of them. Each warp takes every fourth tile of 16 keys, in its own shared memory. It waits
// only for its own copies, until the four warps combine their results. Grid: (row tiles, B * Hk,
// parts of the keys); `join_parts` (attention.cu) combines the parts (Dao et al. 2023,
// "Flash-Decoding").
//
// Bytes: (D + E) times 2, 1 or 1/2 per key, in loads of 16 bytes per lane (codes: 8), coalesced;
// and E + 2 floats per row of each part. Memory is the bound. For 16 keys of 128 columns, 8 KiB, a
// warp does 32 mma, 24 ldmatrix and 8 exponentials per lane, in about 700 cycles. So the 12 to 16
// warps of a multiprocessor can process 8 times what an H100's memory delivers (15 bytes per
// cycle). Each warp has the next 8 KiB in flight, 100 KiB in all; the memory latency needs about
// 40. (An H100 reached 50 % of its bandwidth with 8,192 keys.) With up to 128 keys, all copies are
// in flight at once, including those of the queries.
#pragma once
#include "attention_softmax.cuh"
#include "attention_sources.cuh"

constexpr int KEYS_OF_WARP = 16, KEYS_OF_BLOCK = WARPS * KEYS_OF_WARP;
constexpr unsigned ALL_LANES = 0xffffffffu;
// Tiles per warp in shared memory: two, to load the next one during computation, if heads are not
// too wide.
template <int HEAD> constexpr int places_of_tiles = HEAD <= 128 ? 2 : 1;

// A warp's tiles, behind that of the queries: in each place one of keys and one of values.
template <int HEAD, class T> __device__ T* tiles_of_warp(T* q_tile) {
    constexpr int ROWS_OF_TILES = 2 * KEYS_OF_WARP * places_of_tiles<HEAD>;
    return q_tile + (16 + ROWS_OF_TILES * (threadIdx.x / 32)) * pitch<HEAD>;
}

// Combines the warps' results for the same 16 rows and writes them. `memory` has room for the
// statistics of 16 rows and, after the first 16 rows of HEAD + 8 elements T, for the warps' sums.
template <class T, int HEAD>
__device__ void join_warps(Softmax<1, HEAD>& of, const Results<T>& results, const Problem& p, Int query,
                           int count, T* memory) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = int(p.value_width);
    float* highs = reinterpret_cast<float*>(memory);  // (4, 16)
    float* totals = highs + 16 * WARPS;               // (4, 16)
    float* joined = totals + 16 * WARPS;              // (2, 16): of all warps
    float* sums = reinterpret_cast<float*>(memory + 16 * pitch<HEAD>);  // (4, 16, pitch): no bank conflicts
    of.add_up(1.f);
    __syncthreads();  // tiles are no longer read
    if (lane % 4 == 0)
        for (int half = 0; half < 2; half++) {
            const int at = 16 * warp + 8 * half + lane / 4;
            highs[at] = of.high[0][half], totals[at] = of.sum[0][half];
        }
    __syncthreads();  // all statistics are written
    auto high_of = [&](int row) {
        return fmaxf(fmaxf(highs[row], highs[16 + row]), fmaxf(highs[32 + row], highs[48 + row]));
    };
    auto shrink = [&](float high, float highest) {
        return power_of_two((high - (highest == -infinity<float>() ? 0.f : highest)) * LOG2_E);
    };
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (8 * half >= count) break;  // rows that are not there
        const int row = 8 * half + lane / 4;
        const float factor = shrink(of.high[0][half], high_of(row));
        float* to = sums + (16 * warp + row) * pitch<HEAD> + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < HEAD / 8; n++)
            *reinterpret_cast<float2*>(to + 8 * n) =
                make_float2(of.out[0][n][2 * half] * factor, of.out[0][n][2 * half + 1] * factor);
    }
    if (threadIdx.x < 16) {
        const int row = threadIdx.x;
        const float high = high_of(row);
        float total = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) total += totals[16 * w + row] * shrink(highs[16 * w + row], high);
        joined[row] = high, joined[16 + row] = total;
    }
    __syncthreads();  // all sums are written
    for (int i = 4 * threadIdx.x; i < count * HEAD; i += 4 * THREADS) {
        const int row = i / HEAD, column = i % HEAD;
        const float* const from = sums + row * pitch<HEAD> + column;
        float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll
        for (int w = 1; w < WARPS; w++) {
            const float4 other = *reinterpret_cast<const float4*>(from + 16 * pitch<HEAD> * w);
            sum.x += other.x, sum.y += other.y, sum.z += other.z, sum.w += other.w;
        }
        const float high = joined[row], total = joined[16 + row];
        const Int of_row = query + row;
        if (results.parts > 1) {  // parts may be unaligned
            float* to = results.of_part(p, of_row);
            if (column < width)
                to[column] = sum.x, to[column + 1] = sum.y, to[column + 2] = sum.z, to[column + 3] = sum.w;
            if (column == 0) to[width] = high, to[width + 1] = total;
        } else {
            const float scale = total == 0 ? 0.f : 1 / total;
            if (column < width)
                *reinterpret_cast<uint2*>(results.out + of_row * width + column) =
                    uint2{two<T>(sum.x * scale, sum.y * scale), two<T>(sum.z * scale, sum.w * scale)};
            if (column == 0) results.set_statistics(of_row, high, total);
        }
    }
}

// Queries in an array. Kernels with another source (rope_attention.cu) implement the same methods:
// `load` loads the queries, and the keys at the same time; put_key and put_value change the tiles.
template <class T, int HEAD> struct Queries {
    const T* q;
    Int of_batch, of_head, of_row;
    const Group& group;

    template <class F> __device__ void load(T* tile, int first, int count, F load_keys) const {
        load_tile<HEAD, 16>(tile, count, int(group.problem.width),
                            GroupRows<const T>(q, of_batch, of_head, of_row, group, first));
        cp_async_commit();
        load_keys();
    }
    __device__ void store() const {}
    __device__ void put_key(T*, int, int) const {}
    __device__ void put_value(T*, int, int) const {}
};

// With BY_EXTENT, `source` has an `extent`, before which all keys can be read, and, if it has no
// `window`, sees the first ones: those of a single part are loaded before it knows the newest one.
template <class T, int HEAD, bool BY_EXTENT = false, class QUERIES, class SOURCE>
__device__ void decode(QUERIES& queries, SOURCE source, const Group& group,
                       const Results<T>& results, void* memory) {
    const Problem& p = group.problem;
    constexpr int TILE_SIZE = KEYS_OF_WARP * pitch<HEAD>, PLACES = places_of_tiles<HEAD>;
    T* q_tile = reinterpret_cast<T*>(memory);
    T* tiles = tiles_of_warp<HEAD>(q_tile);
    const int first = int(blockIdx.x) * 16, count = min(16, int(p.group_rows()) - first);
    int from, until;
    // Two commit groups, or only the second one; nothing past the last key is copied.
    auto load = [&](int key, int place, bool has_keys = false) {
        T* k_tile = tiles + 2 * TILE_SIZE * place;
        const int here = min(KEYS_OF_WARP, until - key);
        const Int of_lane = here > 0 ? source.at(key + min(int(threadIdx.x % KEYS_OF_WARP), here - 1)) : 0;
        auto at = [&](int i) { return __shfl_sync(ALL_LANES, of_lane, i); };
        if (!has_keys) {
            if (here > 0) source.template load_keys<HEAD, KEYS_OF_WARP, 32>(k_tile, key, here, at);
            cp_async_commit();
        }
        if (here > 0)
            source.template load_values<HEAD, KEYS_OF_WARP, 32>(k_tile + TILE_SIZE, key, here, at);
        cp_async_commit();
    };
    int key, place = 0;
    queries.load(q_tile, first, count, [&] {
        bool has_keys = false;
        if constexpr (BY_EXTENT) {
            has_keys = results.parts == 1 && !source.window;
            key = threadIdx.x / 32 * KEYS_OF_WARP;
            const int here = min(KEYS_OF_WARP, source.extent - key);
            if (has_keys) {
                if (here > 0) source.template load_keys<HEAD, KEYS_OF_WARP, 32>(tiles, key, here, 0);
                cp_async_commit();
            }
        }
        Int begin, end;
        source.narrow(first, first + count - 1, begin, end);
        part_of_keys<KEYS_OF_BLOCK>(begin, end, results.parts, from, until);
        key = from + threadIdx.x / 32 * KEYS_OF_WARP;
        load(key, 0, has_keys);
    });
    cp_async_wait<2>();
    __syncthreads();  // queries are loaded
    queries.store();

    int all_from, all_until;  // keys that all rows see; rows past the group's last are never written
    source.seen_by_all(first, first + count - 1, all_from, all_until);
    all_until = min(all_until, until);
    Softmax<1, HEAD> softmax;
    for (; key < until; key += KEYS_OF_BLOCK) {
        T* k_tile = tiles + 2 * TILE_SIZE * place;
        float score[1][2][4];
        if constexpr (PLACES == 2) load(key + KEYS_OF_BLOCK, place ^= 1);
        cp_async_wait<2 * PLACES - 1>();
        __syncwarp();  // keys are loaded
        queries.put_key(k_tile, key, until);
        row_products<HEAD>(score, TileRows<HEAD, T>(q_tile), k_tile);
        cap_scores(score, float(p.scale), float(p.softcap));
        if (key < all_from || key + KEYS_OF_WARP > all_until)
            source.mask(score, first, key, min(key + KEYS_OF_WARP, until));
        softmax.take(score, 1.f);  // already scaled: memory is the bound, and registers are scarce
        cp_async_wait<2 * PLACES - 2>();
        __syncwarp();  // values are loaded
        queries.put_value(k_tile + TILE_SIZE, key, until);
        add_weighted<HEAD>(softmax.out, score, k_tile + TILE_SIZE);
        __syncwarp();  // the tile is no longer read
        if constexpr (PLACES == 1) load(key + KEYS_OF_BLOCK, 0);
    }
    if (BY_EXTENT) cp_async_wait<0>();  // a warp without keys has loaded some
    join_warps(softmax, results, p, group.query(first), count, q_tile);
}

// DECODE(columns, blocks per multiprocessor, ...) for each head size.
#define EACH_HEAD(DECODE, NAME, T) \
    DECODE(32, 4, NAME, T)         \
    DECODE(64, 4, NAME, T)         \
    DECODE(96, 3, NAME, T)         \
    DECODE(128, 3, NAME, T)        \
    DECODE(192, 2, NAME, T)        \
    DECODE(256, 2, NAME, T)
