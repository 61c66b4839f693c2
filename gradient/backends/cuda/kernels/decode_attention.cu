// Attention of few queries to keys and values in arrays: decode_attention.cuh.
#include "decode_attention.cuh"

#define DECODE(HEAD, BLOCKS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) decode_attention_##HEAD##_##NAME(    \
        const T* q, Int q_batch, Int q_head, Int q_row, const T* k, const T* v, const void* mask,  \
        T* out, float* high, float* log_sum, float* partial, Int parts, PROBLEM_PARAMETERS) {      \
        const Problem p = PROBLEM;                                                                 \
        extern __shared__ uint4 memory[];                                                          \
        const Group group(p);                                                                      \
        decode<T, HEAD>(q, q_batch, q_head, q_row,                                                 \
                        Arrays<T>{group, k + group.k_offset(), v + group.v_offset(), mask}, group, \
                        Results<T>{out, high, log_sum, partial, parts}, memory);                   \
    }
#define EXPORT(NAME, T)        \
    DECODE(32, 4, NAME, T)     \
    DECODE(64, 4, NAME, T)     \
    DECODE(96, 3, NAME, T)     \
    DECODE(128, 3, NAME, T)    \
    DECODE(192, 2, NAME, T)    \
    DECODE(256, 2, NAME, T)
FOR_EACH_HALF(EXPORT)
