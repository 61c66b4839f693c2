// Attention of many queries, as for a long prompt in chunks, to a key-value cache by tensor cores:
// the kernel of flash_attention.cu with the sources of decode_attention.cuh, floats or codes in
// rows of slots or in pages. No array is gathered and no mask is made. The slots that a query sees
// are computed from positions on the device, so the rows of a batch may have any lengths.
//
// Bytes: q and out once; slots that any row of a tile sees, once for each row tile. Floats are
// copied asynchronously; codes are loaded synchronously, while other blocks of the multiprocessor
// compute.
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
