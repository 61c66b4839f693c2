// Attention of few queries, as in decoding, to a key-value cache that is read in place: rows of
// slots or pages, of floats or int8 and int4 codes, which are dequantized in shared memory. The
// slots that a query sees are computed from positions on the device.
//
//     out[b, h, t] = softmax_s(scale q[b, h, t] . k[b, g, s]) v[b, g, s],  g = h / (H / Hk)
//
// A block computes 16 rows of a group of heads that share their keys, so a cached vector is read
// once for all of them. Bytes: the slots up to the last position once; with several parts also E +
// 2 floats per row of each. Grid: (row tiles, B * Hk, parts of the slots); `join_parts`
// (attention.cu) combines the parts (Dao et al. 2023, "Flash-Decoding").
#include "attention_rows.cuh"
#include "cache_slots.cuh"

template <class T> struct Cache {
    typedef computed<T> A;
    const Group& group;
    Stored keys, values;
    const Slots& slots;

    // A warp loads one vector at a time, so its address is computed once and lanes read adjacent
    // elements.
    __device__ void load(const Stored& from, A* to, Int pitch, Int width, Int key, Int here) const {
        const int wide = int(width);
        for (int row = threadIdx.x / 32; row < TILE; row += WARPS) {
            const Int at = row < here ? slots.at(group.batch, group.key_head, key + row) : 0;
            for (int column = threadIdx.x % 32; column < wide; column += 32)
                to[row * int(pitch) + column] = row < here ? from.number<T>(at, column, wide) : A(0);
        }
    }
    __device__ void load_keys(A* to, Int pitch, Int key, Int here) const {
        load(keys, to, pitch, group.problem.width, key, here);
    }
    __device__ void load_values(A* to, Int pitch, Int key, Int here) const {
        load(values, to, pitch, group.problem.value_width, key, here);
    }
    __device__ A masked(Int row, Int slot, A score) const {
        const Problem& p = group.problem;
        if (row >= p.group_rows() || slot >= p.keys) return -infinity<A>();
        if (slots.see_all) return score;
        const Int* of_row = slots.positions + group.batch * p.queries;
        const Int held = slots.held(group.batch, slot, of_row[p.queries - 1]);
        return slots.sees(of_row[row % p.queries], held) ? score : -infinity<A>();
    }
};

template <class T, int COLUMNS>
__device__ void cached_attention(const T* q, const Stored& keys, const Stored& values,
                                 const Slots& slots, Int first, const Results<T>& results,
                                 const Problem& p) {
    Group group(p);
    Int begin = first, end = p.keys;
    const Int* of_row = slots.positions + group.batch * p.queries;
    slots.narrow(group.batch, of_row[0], of_row[p.queries - 1], begin, end);
    extern __shared__ double memory[];
    attend<T, COLUMNS>(q, Cache<T>{group, keys, values, slots}, group, begin, end, results, memory);
}

#define CACHED(COLUMNS, NAME, T)                                                                      \
    extern "C" __global__ void __launch_bounds__(128, 2) cached_attention_##COLUMNS##_##NAME(         \
        const T* q, CACHE_PARAMETERS, T* out, computed<T>* partial, Int parts, SIZE_PARAMETERS) {     \
        cached_attention<T, COLUMNS / 32>(                                                            \
            q, KEYS_OF_CACHE, VALUES_OF_CACHE, SLOTS, first,                                          \
            Results<T>{out, nullptr, nullptr, partial, parts},                                        \
            problem_of_cache(heads, key_heads, queries, extent, width, value_width, scale, softcap)); \
    }
#define EXPORT(NAME, T)   \
    CACHED(64, NAME, T)   \
    CACHED(128, NAME, T)  \
    CACHED(256, NAME, T)
FOR_EACH_FLOAT(EXPORT)
