// What a key-value cache stores of vectors, and which of its slots a query sees.
#pragma once
#include "attention.cuh"

typedef unsigned char Byte;
constexpr Int NO_POSITION = Int(1) << 62;

// Storage of keys or values: floats T; or int8 codes (..., D) and scales (..., G); or int4 codes in
// bytes (..., D / 2), the first half of the vector in their low halves, with scales and minimums.
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

// The layout of slots, in vectors: `table` (B, n) has the pages of each row, or is null.
struct Slots {
    const Int *positions, *start, *table;
    Int offset, size, pages, of_batch, of_head, of_slot;
    Int wraps, see_all, window;

    __device__ Int at(Int batch, Int head, Int slot) const {
        if (!table) return batch * of_batch + head * of_head + (offset + slot) * of_slot;
        const int of_page = int(slot) % int(size);  // 32 bits: 64-bit division is slow
        const Int page = table[batch * pages + int(slot) / int(size)];
        return page * of_batch + head * of_head + of_page * of_slot;
    }
    // The position that a slot holds, if the row's last query is at `newest`.
    __device__ Int held(Int batch, Int slot, Int newest) const {
        Int position = slot;
        if (start) position += start[batch];
        if (wraps) {  // the newest position that maps to this slot
            const int back = int(newest - slot) % int(size);
            position = newest - (back < 0 ? back + size : back);
        }
        return position < 0 ? NO_POSITION : position;
    }
    // Whether a query at `position` sees the key at position `held`.
    __device__ bool sees(Int position, Int held) const {
        return held <= position && (window == 0 || held > position - window);
    }
    // Narrows begin..end to the slots that queries at positions earliest..latest may see.
    __device__ void narrow(Int batch, Int earliest, Int latest, Int& begin, Int& end) const {
        if (see_all || wraps) return;
        const Int first = start ? start[batch] : 0;
        end = max(begin, min(end, latest + 1 - first));
        if (window) begin = min(end, max(begin, earliest - window + 1 - first));
    }
};

// Kernel parameters: a cache, and the sizes of the problem.
#define CACHE_PARAMETERS                                                                           \
    const void *keys, const __half *key_scales, const __half *key_minimums, Int key_groups,        \
        const void *values, const __half *value_scales, const __half *value_minimums,              \
        Int value_groups, const Int *positions, const Int *start, const Int *table, Int offset,    \
        Int size, Int pages, Int of_batch, Int of_head, Int of_slot, Int wraps, Int see_all,       \
        Int window, Int first
#define KEYS_OF_CACHE Stored{keys, key_scales, key_minimums, key_groups}
#define VALUES_OF_CACHE Stored{values, value_scales, value_minimums, value_groups}
#define SLOTS                                                                                       \
    Slots{positions, start, table, offset, size, pages, of_batch, of_head, of_slot, wraps, see_all, \
          window}
#define SIZE_PARAMETERS                                                                            \
    Int heads, Int key_heads, Int queries, Int extent, Int width, Int value_width, double scale,   \
        double softcap

__device__ inline Problem problem_of_cache(SIZE_PARAMETERS) {
    Problem p = {};
    p.heads = heads, p.key_heads = key_heads, p.queries = queries, p.keys = extent;
    p.width = width, p.value_width = value_width, p.scale = scale, p.softcap = softcap;
    return p;
}
