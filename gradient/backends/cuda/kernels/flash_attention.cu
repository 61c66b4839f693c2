// Attention of 16-bit floats by tensor cores: softmax(scale q k^T + mask) v, without a (T, S) array
// (Dao 2023, "FlashAttention-2", algorithm 1).
//
//     score = softcap tanh(scale q k^T / softcap), -inf where masked
//     high  = the largest score of a row so far, sum = of e^(score - high), out = of e^(score - high) v
//
// A block has 128 rows of a group of heads that share their keys (64 where heads are wide), 32 to a
// warp, and goes over the keys in tiles; those that none of its rows sees are left out. While scores
// are made, the values are on their way to shared memory; while values are added up, the next keys.
// Grid: (row tiles, B * Hk, parts): the keys are divided into parts where there are few rows
// (`join_parts` of attention.cu joins them).
//
// Of B H T S (D + E) multiplications, tensor cores do all; per tile of 64 keys and warp of 32 rows,
// 128 columns: 256 mma, 96 ldmatrix, 64 exponentials a lane. Memory: q and out once, k and v once for
// each row tile, mostly from the L2 cache. Probabilities are rounded to T before they multiply v.
#include "attention_tiles.cuh"

// Writes the warp's rows: `query` is the number of its first one among all, `count` of them are there.
template <class T, int HEAD, int M>
__device__ void write(Softmax<M, HEAD>& of, const Results<T>& results, const Problem& p, Int query,
                      int count, T* rows) {
    const int lane = threadIdx.x % 32, width = int(p.value_width);
    of.add_up();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = 16 * m + 8 * half + lane / 4;
            const float high = of.high[m][half], sum = of.sum[m][half];
            if (results.parts > 1) {
                if (row >= count) continue;
                const Int all = p.heads * p.queries * (gridDim.y / p.key_heads);
                float* to = results.partial + (blockIdx.z * all + query + row) * (width + 2);
#pragma unroll
                for (int n = 0; n < HEAD / 8; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int column = 8 * n + lane % 4 * 2 + i;
                        if (column < width) to[column] = of.out[m][n][2 * half + i];
                    }
                if (lane % 4 == 0) to[width] = high, to[width + 1] = sum;
                continue;
            }
            const float scale = sum == 0 ? 0.f : 1 / sum;
#pragma unroll
            for (int n = 0; n < HEAD / 8; n++)
                of.out[m][n][2 * half] *= scale, of.out[m][n][2 * half + 1] *= scale;
            if (lane % 4 == 0 && row < count) results.set_statistics(query + row, high, sum);
        }
    if (results.parts == 1)
        store_rows<HEAD>(results.out + query * width, width, count, of.out, 1.f, rows);
}

template <class T, int HEAD, int M, int KEYS>
__device__ void flash_attention(const T* q, Int q_batch, Int q_head, Int q_row, const T* k, const T* v,
                                const void* mask, const Results<T>& results, const Problem& p) {
    constexpr int ROWS_OF_BLOCK = WARPS * 16 * M;
    extern __shared__ uint4 memory[];
    T* q_tile = reinterpret_cast<T*>(memory);
    T* k_tile = q_tile + ROWS_OF_BLOCK * pitch<HEAD>;
    T* v_tile = k_tile + KEYS * pitch<HEAD>;
    const Group group(p);
    // Causal rows that come late see the most keys: their blocks begin first.
    const int first = int(p.causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * ROWS_OF_BLOCK;
    const int count = min(ROWS_OF_BLOCK, int(p.group_rows()) - first);
    const int of_warp = threadIdx.x / 32 * 16 * M, here = min(16 * M, count - of_warp);
    T* own_rows = q_tile + of_warp * pitch<HEAD>;

    Int begin, end;
    key_range(p, first, first + count - 1, begin, end);
    const Int tiles = (max(end - begin, Int(0)) + KEYS - 1) / KEYS;
    const Int of_part = (tiles + results.parts - 1) / results.parts;
    const int from = int(begin + blockIdx.z * of_part * KEYS);
    const int until = int(min(end, from + of_part * KEYS));
    Int sees_from = 0, sees_until = 0;  // this warp
    if (here > 0) key_range(p, first + of_warp, first + of_warp + here - 1, sees_from, sees_until);

    const T *keys = k + group.k_offset(), *values = v + group.v_offset();
    auto load_keys = [&](int key) {
        load_tile<HEAD, KEYS>(k_tile, until - key, int(p.width),
                              [&](int row) { return keys + (key + row) * p.k_row; });
    };
    auto load_values = [&](int key) {
        load_tile<HEAD, KEYS>(v_tile, until - key, int(p.value_width),
                              [&](int row) { return values + (key + row) * p.v_row; });
    };
    load_tile<HEAD, ROWS_OF_BLOCK>(q_tile, count, int(p.width),
                                   GroupRows<T>(q, q_batch, q_head, q_row, group, first));
    if (from < until) load_keys(from);
    cp_async_commit();

    Softmax<M, HEAD> softmax;
    for (int key = from; key < until; key += KEYS) {
        const bool seen = here > 0 && key < sees_until && key + KEYS > sees_from;
        float score[M][KEYS / 8][4];
        cp_async_wait<0>();
        __syncthreads();  // the keys came; the values before were read
        load_values(key);
        cp_async_commit();
        if (seen) row_products<HEAD>(score, own_rows, k_tile);
        cp_async_wait<0>();
        __syncthreads();  // the values came; the keys were read
        if (key + KEYS < until) load_keys(key + KEYS);
        cp_async_commit();
        if (!seen) continue;
        cap_scores(score, float(p.scale), float(p.softcap));
        const int row = first + of_warp;
        if (!sees_all(p, row, row + 16 * M - 1, key, key + KEYS - 1))
            mask_scores<T>(score, group, mask, row, key);
        softmax.take(score);
        add_weighted<HEAD>(softmax.out, score, v_tile);
    }
    cp_async_wait<0>();
    __syncthreads();  // the queries came, where no key did
    if (here > 0) write(softmax, results, p, group.query(first + of_warp), here, own_rows);
}

#define FLASH(HEAD, M, KEYS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, 2) flash_attention_##HEAD##_##NAME(          \
        const T* q, Int q_batch, Int q_head, Int q_row, const T* k, const T* v, const void* mask,  \
        T* out, float* high, float* log_sum, float* partial, Int parts, PROBLEM_PARAMETERS) {      \
        flash_attention<T, HEAD, M, KEYS>(q, q_batch, q_head, q_row, k, v, mask,                   \
                                          Results<T>{out, high, log_sum, partial, parts}, PROBLEM); \
    }
#define EXPORT(NAME, T)          \
    FLASH(32, 2, 64, NAME, T)    \
    FLASH(64, 2, 64, NAME, T)    \
    FLASH(96, 2, 32, NAME, T)    \
    FLASH(128, 2, 32, NAME, T)   \
    FLASH(192, 1, 32, NAME, T)   \
    FLASH(256, 1, 32, NAME, T)
FOR_EACH_HALF(EXPORT)
