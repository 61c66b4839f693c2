// Sources of keys and values for the tensor-core kernels, and the keys that a row sees: arrays with
// a mask, or a key-value cache.
//
//     narrow(first, last, begin, end)   the keys that any of the rows first..last may see
//     load_keys, load_values            copy `count` keys from `key` on to a tile of ROOM rows, by BY
//                                       threads; in a cache, the i-th of them is at `at(i)`
//     seen_by_all                       a range of keys that all of some rows see
//     mask                              scores of the warp's rows become -inf where they see no key
#pragma once
#include "attention_tiles.cuh"
#include "cache_slots.cuh"

template <class T> struct Arrays {
    static constexpr bool scattered = false;  // whether `at` is needed
    static __device__ bool in_order(const Problem& p) { return p.causal; }  // later rows see more keys
    const Group& group;
    const T *keys, *values;
    const void* mask_numbers;

    __device__ void narrow(int first, int last, Int& begin, Int& end) const {
        key_range(group.problem, first, last, begin, end);
    }
    __device__ Int at(int) const { return 0; }
    template <int HEAD, int ROOM, int BY, class F>
    __device__ void load_keys(T* tile, int key, int count, F) const {
        const Problem& p = group.problem;
        load_rows_apart<HEAD, ROOM, BY>(tile, count, int(p.width), keys + key * p.k_row, p.k_row);
    }
    template <int HEAD, int ROOM, int BY, class F>
    __device__ void load_values(T* tile, int key, int count, F) const {
        const Problem& p = group.problem;
        load_rows_apart<HEAD, ROOM, BY>(tile, count, int(p.value_width), values + key * p.v_row, p.v_row);
    }
    __device__ void seen_by_all(int first_row, int last_row, int& from, int& until) const {
        ::seen_by_all(group.problem, first_row, last_row, from, until);
    }
    template <int M, int N>
    __device__ void mask(float (&score)[M][N][4], int first_row, int key, int) const {
        mask_scores<T>(score, group, mask_numbers, first_row, key);
    }
};

// Code `i` of four: 2^23 + code is a float whose last bits are those of the code.
__device__ inline float code_at(unsigned word, int i) {
    return __uint_as_float(0x4b000000u | (word >> 8 * i & 255)) - 8388608.f;
}

// As `load_tile`, for a tile of quantized vectors at(0), at(1), ..., but waits for the loads. Each
// thread converts 8 consecutive elements at a time, of several vectors, so that their loads
// overlap.
template <int HEAD, int ROOM, int BY, class T, class F>
__device__ void load_codes(T* tile, const Stored& from, int count, int width, F at) {
    constexpr int PIECES = HEAD / 8, TOGETHER = HEAD % 64 ? 2 : 4;
    const bool halves = from.minimums != nullptr;  // 4-bit codes, two per byte
    const int bytes = halves ? width / 2 : width, size = width / int(from.groups);
#pragma unroll 1
    for (int first = threadIdx.x % BY; first < ROOM * PIECES; first += BY * TOGETHER) {
        uint2 codes[TOGETHER];
        float scale[TOGETHER], lowest[TOGETHER];
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            const int row = (first + BY * j) / PIECES, column = (first + BY * j) % PIECES * 8;
            codes[j] = {0, 0}, scale[j] = lowest[j] = 0;
            if (row >= ROOM) continue;
            const Int vector = at(row);
            if (row >= count || column >= width) continue;
            const bool upper = column >= bytes;
            const Byte* piece = static_cast<const Byte*>(from.codes) + vector * bytes + column;
            codes[j] = *reinterpret_cast<const uint2*>(upper ? piece - bytes : piece);
            const Int group = vector * from.groups + column / size;
            scale[j] = float(from.scales[group]);
            if (halves) {
                lowest[j] = float(from.minimums[group]);
                codes[j].x = codes[j].x >> (upper ? 4 : 0) & 0x0f0f0f0f;
                codes[j].y = codes[j].y >> (upper ? 4 : 0) & 0x0f0f0f0f;
            } else {  // maps -128..127 to 0..255
                lowest[j] = -128 * scale[j];
                codes[j].x ^= 0x80808080, codes[j].y ^= 0x80808080;
            }
        }
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            const int row = (first + BY * j) / PIECES, column = (first + BY * j) % PIECES * 8;
            if (row >= ROOM) continue;
            auto pair = [&](unsigned word, int i) {
                return two<T>(code_at(word, i) * scale[j] + lowest[j],
                              code_at(word, i + 1) * scale[j] + lowest[j]);
            };
            *reinterpret_cast<uint4*>(tile + row * pitch<HEAD> + column) =
                uint4{pair(codes[j].x, 0), pair(codes[j].x, 2), pair(codes[j].y, 0), pair(codes[j].y, 2)};
        }
    }
}

template <class T> struct Cache {
    static constexpr bool scattered = true;
    static __device__ bool in_order(const Problem&) { return true; }
    const Group& group;
    const Stored &keys, &values;
    const Slots& slots;
    Int first;

    __device__ const Int* positions() const {
        return slots.positions + group.batch * group.problem.queries;
    }
    __device__ void narrow(int first_row, int last_row, Int& begin, Int& end) const {
        const int queries = int(group.problem.queries);
        const bool one_head = first_row / queries == last_row / queries;
        begin = first, end = group.problem.keys;
        slots.narrow(group.batch, positions()[one_head ? first_row % queries : 0],
                     positions()[one_head ? last_row % queries : queries - 1], begin, end);
    }
    __device__ Int at(int slot) const { return slots.at(group.batch, group.key_head, slot); }
    template <int HEAD, int ROOM, int BY, class F>
    __device__ void load(T* tile, const Stored& from, int count, int width, F at) const {
        if (from.scales) return load_codes<HEAD, ROOM, BY>(tile, from, count, width, at);
        load_tile<HEAD, ROOM, BY>(tile, count, width, [&](int i) {
            return static_cast<const T*>(from.codes) + at(i) * width;
        });
    }
    template <int HEAD, int ROOM, int BY, class F>
    __device__ void load_keys(T* tile, int, int count, F at) const {
        load<HEAD, ROOM, BY>(tile, keys, count, int(group.problem.width), at);
    }
    template <int HEAD, int ROOM, int BY, class F>
    __device__ void load_values(T* tile, int, int count, F at) const {
        load<HEAD, ROOM, BY>(tile, values, count, int(group.problem.value_width), at);
    }
    __device__ void seen_by_all(int first_row, int last_row, int& from, int& until) const {
        const int queries = int(group.problem.queries), head = first_row / queries;
        const bool one_head = last_row / queries == head;
        from = 0, until = slots.see_all || !slots.wraps ? int(group.problem.keys) : 0;
        if (slots.see_all || slots.wraps) return;
        const Int start = slots.start ? slots.start[group.batch] : 0;
        const Int earliest = positions()[one_head ? first_row - head * queries : 0];
        const Int latest = positions()[one_head ? last_row - head * queries : queries - 1];
        until = int(max(Int(0), min(Int(until), earliest + 1 - start)));
        Int first = max(Int(0), -start);
        if (slots.window) first = max(first, latest - slots.window + 1 - start);
        from = int(min(first, group.problem.keys));
    }
    // `until` is the first key after the tile.
    template <int M, int N>
    __device__ void mask(float (&score)[M][N][4], int first_row, int key, int until) const {
        const int lane = threadIdx.x % 32, rows = int(group.problem.group_rows());
        const int queries = int(group.problem.queries);
        const Int newest = positions()[queries - 1];
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int slot = key + 8 * n + lane % 4 * 2 + i;
                const Int held = slots.see_all ? 0 : slots.held(group.batch, slot, newest);
#pragma unroll
                for (int m = 0; m < M; m++)
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const int row = first_row + 16 * m + 8 * half + lane / 4;
                        const bool there = row < rows && slot < until;
                        if (!there || !(slots.see_all || slots.sees(positions()[row % queries], held)))
                            score[m][n][2 * half + i] = -infinity<float>();
                    }
            }
    }
};

// Defines `source` and `group` in a kernel with CACHE_PARAMETERS and SIZE_PARAMETERS.
#define SOURCE_OF_CACHE(T)                                                                         \
    const Problem p =                                                                              \
        problem_of_cache(heads, key_heads, queries, extent, width, value_width, scale, softcap);   \
    const Group group(p);                                                                          \
    const Stored of_keys = KEYS_OF_CACHE, of_values = VALUES_OF_CACHE;                             \
    const Slots slots = SLOTS;                                                                     \
    const Cache<T> source{group, of_keys, of_values, slots, first};
// The same in a kernel with `k`, `v`, `mask` and PROBLEM_PARAMETERS.
#define SOURCE_OF_ARRAYS(T)                                                                        \
    const Problem p = PROBLEM;                                                                     \
    const Group group(p);                                                                          \
    const Arrays<T> source{group, k + group.k_offset(), v + group.v_offset(), mask};
