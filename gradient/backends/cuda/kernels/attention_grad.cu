// Gradients of attention. Probabilities are recomputed from each row's largest score and the
// logarithm of its sum, so that nothing of size (T, S) is stored (Dao et al. 2022, algorithm 4).
//
//     p = e^(score - high - log_sum)        gv = p^T g
//     delta = sum(g * out) of a row         ds = p (g v^T - delta) (1 - (score / softcap)^2)
//     gq = scale ds k                       gk = scale ds^T q
//
// Two kernels. In the one for q, a block has 16 rows and loops over the keys, as in the forward
// kernel. In the one for k and v, a block has 16 keys and loops over the rows of all heads that
// share them. So there are no atomic additions, and the order of sums is fixed.
#include "attention.cuh"

// p = e^(score - high - log_sum), and the gradient for q k^T from `dot` = g v^T.
template <class T, class A>
__device__ void probability_grad(const Group& group, const void* mask, Int row, Int key, A product,
                                 A high, A log_sum, A dot, A delta, A& probability, A& grad) {
    const Problem& p = group.problem;
    A score = capped(p, product);
    A seen = masked<T>(group, mask, row, key, score);
    probability = seen == -infinity<A>() ? A(0) : exp(seen - high - log_sum);
    grad = probability == 0 ? A(0) : probability * (dot - delta) * A(p.scale);
    if (p.softcap > 0) grad *= 1 - score / A(p.softcap) * (score / A(p.softcap));
}

// delta = sum(g * out) of each row of E elements. One warp per row.
template <class T>
__device__ void row_products(const T* g, const T* out, computed<T>* delta, Int rows, Int width) {
    typedef computed<T> A;
    Int row = Int(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    A sum = 0;
    for (Int c = threadIdx.x % 32; c < width; c += 32) sum += A(g[row * width + c]) * A(out[row * width + c]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}

template <class T, int COLUMNS>
__device__ void query_grad(const T* g, const T* q, const T* k, const T* v, const void* mask,
                           const computed<T>* high, const computed<T>* log_sum,
                           const computed<T>* delta, T* gq, const Problem& p) {
    typedef computed<T> A;
    extern __shared__ double memory[];
    Int pitch = p.width | 1, value_pitch = p.value_width | 1;
    A* q_rows = reinterpret_cast<A*>(memory);
    A* g_rows = q_rows + ROWS * p.width;
    A* k_tile = g_rows + ROWS * p.value_width;
    A* v_tile = k_tile + TILE * pitch;
    Group group(p);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Int first = Int(blockIdx.x) * ROWS, count = min(Int(ROWS), p.group_rows() - first);
    Int query = group.query(first);
    load_rows(q_rows, p.width, q + query * p.width, p.width, p.width, count, Int(ROWS));
    load_rows(g_rows, p.value_width, g + query * p.value_width, p.value_width, p.value_width, count, Int(ROWS));

    A result[ROWS_OF_WARP][COLUMNS] = {};
    Int begin, end;
    key_range(p, first, first + count - 1, begin, end);
    const T* keys = k + group.k_offset();
    const T* values = v + group.v_offset();
    for (Int key = begin; key < end; key += TILE) {
        Int here = min(Int(TILE), p.keys - key);
        __syncthreads();
        load_rows(k_tile, pitch, keys + key * p.k_row, p.k_row, p.width, here, Int(TILE));
        load_rows(v_tile, value_pitch, values + key * p.v_row, p.v_row, p.value_width, here, Int(TILE));
        __syncthreads();
        A score[ROWS_OF_WARP], dot[ROWS_OF_WARP];
        products(q_rows + warp * ROWS_OF_WARP * p.width, k_tile + lane * pitch, p.width, score);
        products(g_rows + warp * ROWS_OF_WARP * p.value_width, v_tile + lane * value_pitch, p.value_width, dot);
        for (int r = 0; r < ROWS_OF_WARP; r++) {
            Int row = warp * ROWS_OF_WARP + r, of = row < count ? query + row : query;
            A probability;
            probability_grad<T>(group, mask, first + row, key + lane, score[r], high[of], log_sum[of],
                                dot[r], delta[of], probability, score[r]);
        }
        add_rows(result, score, k_tile, pitch, p.width);
    }
    for (int r = 0; r < ROWS_OF_WARP; r++) {
        Int row = warp * ROWS_OF_WARP + r;
        for (int c = 0; c < COLUMNS; c++)
            if (row < count && lane + 32 * c < p.width)
                gq[(query + row) * p.width + lane + 32 * c] = T(result[r][c]);
    }
}

// gk (B, Hk, S, D) and gv (B, Hk, S, E), contiguous.
template <class T, int COLUMNS>
__device__ void key_grad(const T* g, const T* q, const T* k, const T* v, const void* mask,
                         const computed<T>* high, const computed<T>* log_sum,
                         const computed<T>* delta, computed<T>* gk, computed<T>* gv,
                         const Problem& p) {
    typedef computed<T> A;
    extern __shared__ double memory[];
    Int pitch = p.width | 1, value_pitch = p.value_width | 1;
    A* k_rows = reinterpret_cast<A*>(memory);
    A* v_rows = k_rows + ROWS * p.width;
    A* q_tile = v_rows + ROWS * p.value_width;
    A* g_tile = q_tile + TILE * pitch;
    Group group(p);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Int first = Int(blockIdx.x) * ROWS, count = min(Int(ROWS), p.keys - first);
    load_rows(k_rows, p.width, k + group.k_offset() + first * p.k_row, p.k_row, p.width, count, Int(ROWS));
    load_rows(v_rows, p.value_width, v + group.v_offset() + first * p.v_row, p.v_row, p.value_width, count, Int(ROWS));

    A of_key[ROWS_OF_WARP][COLUMNS] = {}, of_value[ROWS_OF_WARP][COLUMNS] = {};
    Int rows = p.group_rows();
    for (Int start = 0; start < rows; start += TILE) {
        Int here = min(Int(TILE), rows - start), begin, end;
        key_range(p, start, start + here - 1, begin, end);
        if (end <= first || begin >= first + count) continue;  // no row sees these keys
        Int query = group.query(start);
        __syncthreads();
        load_rows(q_tile, pitch, q + query * p.width, p.width, p.width, here, Int(TILE));
        load_rows(g_tile, value_pitch, g + query * p.value_width, p.value_width, p.value_width, here, Int(TILE));
        __syncthreads();
        Int of = lane < here ? query + lane : query;
        A score[ROWS_OF_WARP], dot[ROWS_OF_WARP], probability[ROWS_OF_WARP];
        products(k_rows + warp * ROWS_OF_WARP * p.width, q_tile + lane * pitch, p.width, score);
        products(v_rows + warp * ROWS_OF_WARP * p.value_width, g_tile + lane * value_pitch, p.value_width, dot);
        for (int r = 0; r < ROWS_OF_WARP; r++) {
            Int key = first + warp * ROWS_OF_WARP + r;
            Int row = lane < here ? start + lane : rows;  // rows: past the end
            probability_grad<T>(group, mask, row, key, score[r], high[of], log_sum[of], dot[r],
                                delta[of], probability[r], score[r]);
        }
        add_rows(of_key, score, q_tile, pitch, p.width);
        add_rows(of_value, probability, g_tile, value_pitch, p.value_width);
    }
    for (int r = 0; r < ROWS_OF_WARP; r++) {
        Int row = warp * ROWS_OF_WARP + r, key = Int(blockIdx.y) * p.keys + first + row;
        if (row >= count) continue;
        for (int c = 0; c < COLUMNS; c++) {
            Int column = lane + 32 * c;
            if (column < p.width) gk[key * p.width + column] = of_key[r][c];
            if (column < p.value_width) gv[key * p.value_width + column] = of_value[r][c];
        }
    }
}

#define GRADIENTS(COLUMNS, NAME, T)                                                               \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_grad_query_##COLUMNS##_##NAME( \
        const T* g, const T* q, const T* k, const T* v, const void* mask,                         \
        const computed<T>* high, const computed<T>* log_sum, const computed<T>* delta, T* gq,     \
        PROBLEM_PARAMETERS) {                                                                     \
        query_grad<T, COLUMNS / 32>(g, q, k, v, mask, high, log_sum, delta, gq, PROBLEM);         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_grad_key_##COLUMNS##_##NAME(   \
        const T* g, const T* q, const T* k, const T* v, const void* mask,                         \
        const computed<T>* high, const computed<T>* log_sum, const computed<T>* delta,            \
        computed<T>* gk, computed<T>* gv, PROBLEM_PARAMETERS) {                                   \
        key_grad<T, COLUMNS / 32>(g, q, k, v, mask, high, log_sum, delta, gk, gv, PROBLEM);       \
    }
#define EXPORT(NAME, T)                                                                        \
    GRADIENTS(64, NAME, T)                                                                     \
    GRADIENTS(128, NAME, T)                                                                    \
    GRADIENTS(256, NAME, T)                                                                    \
    extern "C" __global__ void row_products_##NAME(const T* g, const T* out,                   \
                                                   computed<T>* delta, Int rows, Int width) {  \
        row_products(g, out, delta, rows, width);                                              \
    }
FOR_EACH_FLOAT(EXPORT)
