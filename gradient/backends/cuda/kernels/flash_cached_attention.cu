// Attention of many queries, as of a long prompt that comes in pieces, to a key-value cache by tensor
// cores: flash_attention.cu's kernel over what decode_attention.cu reads, floats or codes in rows of
// slots or in pages. Nothing is gathered into an array, and no mask is made: which slots a query sees
// is found from positions on the device, so that rows of a batch may be of any lengths.
//
// Memory: q and out once, the slots that some row of a tile sees once for each row tile. Floats are
// copied in the background; codes are waited for, while other blocks of the multiprocessor compute.
#include "flash_attention.cuh"

#define FLASH(HEAD, M, KEYS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, 2) flash_cached_attention_##HEAD##_##NAME(   \
        const T* q, Int q_batch, Int q_head, Int q_row, CACHE_PARAMETERS, T* out, float* partial,  \
        Int parts, SIZE_PARAMETERS) {                                                              \
        const Problem p =                                                                          \
            problem_of_cache(heads, key_heads, queries, extent, width, value_width, scale, softcap); \
        extern __shared__ uint4 memory[];                                                          \
        const Group group(p);                                                                      \
        const Stored of_keys = KEYS_OF_CACHE, of_values = VALUES_OF_CACHE;                         \
        const Slots slots = SLOTS;                                                                 \
        const Cache<T> source{group, of_keys, of_values, slots, first};                            \
        flash_attention<T, HEAD, M, KEYS>(q, q_batch, q_head, q_row, source, group,                \
                                          Results<T>{out, nullptr, nullptr, partial, parts}, memory); \
    }
#define EXPORT(NAME, T)          \
    FLASH(32, 2, 64, NAME, T)    \
    FLASH(64, 2, 64, NAME, T)    \
    FLASH(96, 2, 32, NAME, T)    \
    FLASH(128, 2, 32, NAME, T)   \
    FLASH(192, 1, 32, NAME, T)   \
    FLASH(256, 1, 32, NAME, T)
FOR_EACH_HALF(EXPORT)
