// Attention of a few queries, as in decoding, to a key-value cache that is read where it lies: in
// rows of slots or in pages, in floats or in int8 and int4 codes, which become numbers in shared
// memory. Which slots a query sees is found from positions on the device.
//
//     out[b, h, t] = softmax_s(scale q[b, h, t] . k[b, g, s]) v[b, g, s],  g = h / (H / Hk)
//
// A block has 16 of the rows of a group of heads that share their keys, so that a cached vector is
// read once for all of them: a step costs the bytes of the slots up to the last position, and for
// each of several parts E + 2 numbers a row. Grid: (row tiles, B * Hk, parts of the slots);
// `join_parts` (attention.cu) joins the parts (Dao et al. 2023, "Flash-Decoding").
#include "attention_rows.cuh"

typedef unsigned char Byte;
constexpr Int NO_POSITION = Int(1) << 62;

// What is stored of keys or values: floats T; int8 codes (..., D) and scales (..., G); or bytes
// (..., D / 2) whose low halves are the first half's codes, scales and minimums.
struct Stored {
    const void* codes;
    const __half *scales, *minimums;
    Int groups;

    template <class T> __device__ computed<T> number(Int slot, int column, int width) const {
        typedef computed<T> A;
        if (!scales) return A(static_cast<const T*>(codes)[slot * width + column]);
        const Int group = slot * groups + column / (width / int(groups));
        const float scale = float(scales[group]);
        if (!minimums)
            return A(float(static_cast<const signed char*>(codes)[slot * width + column]) * scale);
        const int half = width / 2;
        const Byte both = static_cast<const Byte*>(codes)[slot * half + column % half];
        return A(float(column < half ? both & 15 : both >> 4) * scale + float(minimums[group]));
    }
};

// Where slots lie, in vectors: `table` (B, n) holds the pages of a row, or is null.
struct Slots {
    const Int *positions, *start, *table;
    Int offset, size, pages, of_batch, of_head, of_slot;
    Int wraps, see_all, window;

    __device__ Int at(Int batch, Int head, Int slot) const {
        if (!table) return batch * of_batch + head * of_head + (offset + slot) * of_slot;
        const Int page = table[batch * pages + slot / size];
        return page * of_batch + head * of_head + slot % size * of_slot;
    }
};

template <class T> struct Cache {
    typedef computed<T> A;
    const Group& group;
    Stored keys, values;
    const Slots& slots;

    __device__ void load(const Stored& from, A* to, Int pitch, Int width, Int key, Int here) const {
        const int wide = int(width);
        for (int i = threadIdx.x; i < TILE * wide; i += blockDim.x) {
            const int row = i / wide, column = i % wide;
            A x = 0;
            if (row < here)
                x = from.number<T>(slots.at(group.batch, group.key_head, key + row), column, wide);
            to[row * int(pitch) + column] = x;
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
        const Int position = of_row[row % p.queries];
        Int held = slot;
        if (slots.start) held += slots.start[group.batch];
        if (slots.wraps) {  // the last written of the positions that the slot may hold
            const Int newest = of_row[p.queries - 1];
            const Int back = (newest - slot) % slots.size;
            held = newest - (back < 0 ? back + slots.size : back);
        }
        if (held < 0) held = NO_POSITION;
        const bool seen = held <= position && (slots.window == 0 || held > position - slots.window);
        return seen ? score : -infinity<A>();
    }
};

template <class T, int COLUMNS>
__device__ void cached_attention(const T* q, const Stored& keys, const Stored& values,
                                 const Slots& slots, Int first, const Results<T>& results,
                                 const Problem& p) {
    Group group(p);
    Int begin = first, end = p.keys;
    if (!slots.see_all && !slots.wraps) {  // what no query of the row sees is not read
        const Int* of_row = slots.positions + group.batch * p.queries;
        const Int start = slots.start ? slots.start[group.batch] : 0;
        end = max(begin, min(end, of_row[p.queries - 1] + 1 - start));
        if (slots.window) begin = min(end, max(begin, of_row[0] - slots.window + 1 - start));
    }
    extern __shared__ double memory[];
    attend<T, COLUMNS>(q, Cache<T>{group, keys, values, slots}, group, begin, end, results, memory);
}

#define CACHED(COLUMNS, NAME, T)                                                                   \
    extern "C" __global__ void __launch_bounds__(128, 2) cached_attention_##COLUMNS##_##NAME(      \
        const T* q, const void* keys, const __half* key_scales, const __half* key_minimums,        \
        Int key_groups, const void* values, const __half* value_scales,                            \
        const __half* value_minimums, Int value_groups, const Int* positions, const Int* start,    \
        const Int* table, Int offset, Int size, Int pages, Int of_batch, Int of_head, Int of_slot, \
        Int wraps, Int see_all, Int window, Int first, T* out, computed<T>* partial, Int parts,    \
        Int heads, Int key_heads, Int queries, Int extent, Int width, Int value_width,             \
        double scale, double softcap) {                                                            \
        Problem p = {};                                                                            \
        p.heads = heads, p.key_heads = key_heads, p.queries = queries, p.keys = extent;            \
        p.width = width, p.value_width = value_width, p.scale = scale, p.softcap = softcap;        \
        cached_attention<T, COLUMNS / 32>(                                                         \
            q, Stored{keys, key_scales, key_minimums, key_groups},                                 \
            Stored{values, value_scales, value_minimums, value_groups},                            \
            Slots{positions, start, table, offset, size, pages, of_batch, of_head, of_slot, wraps, \
                  see_all, window},                                                                \
            first, Results<T>{out, nullptr, nullptr, partial, parts}, p);                          \
    }
#define EXPORT(NAME, T)   \
    CACHED(64, NAME, T)   \
    CACHED(128, NAME, T)  \
    CACHED(256, NAME, T)
FOR_EACH_FLOAT(EXPORT)
