// Attention of few queries to keys and values in arrays: decode_attention.cuh.
#include "decode_attention.cuh"

#define DECODE(HEAD, BLOCKS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                      \
        decode_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,           \
            const T* k, const T* v, const void* mask, T* out, float* high, float* log_sum,         \
            float* partial, Int parts, PROBLEM_PARAMETERS) {                                       \
        extern __shared__ uint4 memory[];                                                          \
        SOURCE_OF_ARRAYS(T)                                                                        \
        const Results<T> results{out, high, log_sum, partial, parts};                              \
        Queries<T, HEAD> of_q{q, q_batch, q_head, q_row, group};                                   \
        decode<T, HEAD>(of_q, source, group, results, memory);                                     \
    }
#define EXPORT(NAME, T) EACH_HEAD(DECODE, NAME, T)
FOR_EACH_HALF(EXPORT)
