// Attention of few queries to a key-value cache: decode_attention.cuh.
#include <following.cuh>

#include "decode_attention.cuh"

#define DECODE(HEAD, BLOCKS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                      \
        decode_cached_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,    \
            CACHE_PARAMETERS, T* out, float* partial, Int parts, SIZE_PARAMETERS) {                \
        extern __shared__ uint4 memory[];                                                          \
        trigger_next_kernel();                                                                      \
        wait_for_previous_kernel();                                                                 \
        SOURCE_OF_CACHE(T)                                                                         \
        const Results<T> results{out, nullptr, nullptr, partial, parts};                           \
        Queries<T, HEAD> of_q{q, q_batch, q_head, q_row, group};                                   \
        decode<T, HEAD>(of_q, source, group, results, memory);                                     \
    }
#define EXPORT(NAME, T) EACH_HEAD(DECODE, NAME, T)
FOR_EACH_HALF(EXPORT)
