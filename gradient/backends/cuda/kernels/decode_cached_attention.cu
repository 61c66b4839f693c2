// Attention of few queries to a key-value cache: decode_attention.cuh.
#include "decode_attention.cuh"

#define DECODE(HEAD, BLOCKS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                      \
        decode_cached_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,    \
                                                CACHE_PARAMETERS, T* out, float* partial,          \
                                                Int parts, SIZE_PARAMETERS) {                      \
        const Problem p =                                                                          \
            problem_of_cache(heads, key_heads, queries, extent, width, value_width, scale, softcap); \
        extern __shared__ uint4 memory[];                                                          \
        const Group group(p);                                                                      \
        const Stored of_keys = KEYS_OF_CACHE, of_values = VALUES_OF_CACHE;                         \
        const Slots slots = SLOTS;                                                                 \
        decode<T, HEAD>(q, q_batch, q_head, q_row,                                                 \
                        Cache<T>{group, of_keys, of_values, slots, first}, group,            \
                        Results<T>{out, nullptr, nullptr, partial, parts}, memory);                \
    }
#define EXPORT(NAME, T)        \
    DECODE(32, 4, NAME, T)     \
    DECODE(64, 4, NAME, T)     \
    DECODE(96, 3, NAME, T)     \
    DECODE(128, 3, NAME, T)    \
    DECODE(192, 2, NAME, T)    \
    DECODE(256, 2, NAME, T)
FOR_EACH_HALF(EXPORT)
