// Attention of many queries, as of a long prompt that comes in pieces, to a key-value cache by tensor
// cores: flash_attention.cu's kernel over what decode_attention.cu reads, floats or codes in rows of
// slots or in pages. Nothing is gathered into an array, and no mask is made: which slots a query sees
// is found from positions on the device, so that rows of a batch may be of any lengths.
//
// Memory: q and out once, the slots that some row of a tile sees once for each row tile. Floats are
// copied in the background; codes are waited for, while other blocks of the multiprocessor compute.
#include "flash_attention.cuh"

#define FLASH(HEAD, M, KEYS, NAME, T)                                                                 \
    extern "C" __global__ void __launch_bounds__(128, 2)                                              \
        flash_cached_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,        \
            CACHE_PARAMETERS, T* out, float* partial, Int parts, SIZE_PARAMETERS) {                   \
        extern __shared__ uint4 memory[];                                                             \
        SOURCE_OF_CACHE(T)                                                                            \
        const Int of_queries = queries * value_width;                                                 \
        const Results<T> results{out, nullptr, nullptr, partial, parts,                               \
                                 heads * of_queries, of_queries, value_width};                        \
        flash_attention<T, HEAD, M, KEYS>(q, q_batch, q_head, q_row, source, group, results, memory); \
    }
#define EXPORT(NAME, T) EACH_HEAD(FLASH, NAME, T)
FOR_EACH_HALF(EXPORT)
