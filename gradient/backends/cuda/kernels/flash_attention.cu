// FlashAttention-2 of 16-bit floats by tensor cores: softmax(scale q k^T + mask) v, without a (T,
// S) array (Dao 2023, "FlashAttention-2", algorithm 1).
//
//     score = softcap tanh(scale q k^T / softcap), -inf where masked
//     high  = the largest score of a row so far, or some tiles ago (attention_softmax.cuh)
//     sum   = of e^(score - high), out = of e^(score - high) v
//
// A block computes 128 rows of a group of heads that share their keys (64 if heads are wide), 32
// per warp, and loops over the keys in tiles, except those that none of its rows sees. Tiles are
// double-buffered: the next keys and values are copied while this tile is processed.
// Grid: (row tiles, B * Hk, parts): with few rows, the keys are split into parts (`join_parts` of
// attention.cu combines them).
//
// Tensor cores do all B H T S (D + E) multiplications. Per tile of 64 keys and warp of 32 rows:
// with 128 columns 256 mma, 96 ldmatrix, 64 exponentials per lane; with 64 columns 128 mma and 32
// ldmatrix, because a warp's queries stay in registers. Without a cap or an additive mask a score
// costs a lane one multiply-add, an exponential, an addition and a maximum. Bytes: q and out once,
// k and v once for each row tile, mostly from the L2 cache. Probabilities are rounded to T before
// they multiply v.
#include "flash_attention.cuh"

#define FLASH(HEAD, M, KEYS, NAME, T)                                                                 \
    extern "C" __global__ void __launch_bounds__(128, 2)                                              \
        flash_attention_##HEAD##_##NAME(const T* q, Int q_batch, Int q_head, Int q_row,               \
            const T* k, const T* v, const void* mask, T* out, Int out_batch, Int out_head,            \
            Int out_row, float* high, float* log_sum, float* partial, Int parts,                      \
            PROBLEM_PARAMETERS) {                                                                     \
        extern __shared__ uint4 memory[];                                                             \
        SOURCE_OF_ARRAYS(T)                                                                           \
        const Results<T> results{out, high, log_sum, partial, parts, out_batch, out_head, out_row};   \
        flash_attention<T, HEAD, M, KEYS>(q, q_batch, q_head, q_row, source, group, results, memory); \
    }
#define EXPORT(NAME, T) EACH_HEAD(FLASH, NAME, T)
FOR_EACH_HALF(EXPORT)
