// Attention: softmax(scale q k^T + mask) v, without a (T, S) array (Dao et al. 2022).
//
// A block has 16 rows of a group of heads that share their keys, 4 to a warp, and goes over the keys
// in tiles of 32, one for each lane: it keeps for each row the largest score so far, the sum of
// e^(score - largest), and the weighted sum of the values, which shrink when a larger score comes.
// Grid: (row tiles, B * Hk, parts): the keys are divided into parts where there are few rows, as in
// decoding (Dao et al. 2023, "Flash-Decoding"); a second kernel joins the parts.
// Computed in float32 with FMA: the bound is arithmetic, so tensor cores are what is left to gain.
#include "attention.cuh"

template <class T, int COLUMNS>
__device__ void attention(const T* q, const T* k, const T* v, const void* mask, T* out,
                          computed<T>* high_out, computed<T>* log_sum_out, computed<T>* partial,
                          Int parts, const Problem& p) {
    typedef computed<T> A;
    extern __shared__ double memory[];
    Int pitch = p.width | 1;  // odd, so that lanes read different banks
    A* q_rows = reinterpret_cast<A*>(memory);
    A* k_tile = q_rows + ROWS * p.width;
    A* v_tile = k_tile + TILE * pitch;
    Group group(p);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Int first = Int(blockIdx.x) * ROWS, count = min(Int(ROWS), p.group_rows() - first);
    load_rows(q_rows, p.width, q + group.query(first) * p.width, p.width, p.width, count, Int(ROWS));

    A high[ROWS_OF_WARP], sum[ROWS_OF_WARP], result[ROWS_OF_WARP][COLUMNS];
    for (int r = 0; r < ROWS_OF_WARP; r++) {
        high[r] = -infinity<A>(), sum[r] = 0;
        for (int c = 0; c < COLUMNS; c++) result[r][c] = 0;
    }
    Int begin, end;
    key_range(p, first, first + count - 1, begin, end);
    Int tiles = (end - begin + TILE - 1) / TILE, of_part = (tiles + parts - 1) / parts;
    Int from = begin + blockIdx.z * of_part * TILE, until = min(end, from + of_part * TILE);
    const T* keys = k + group.k_offset();
    const T* values = v + group.v_offset();
    for (Int key = from; key < until; key += TILE) {
        Int here = min(Int(TILE), p.keys - key);
        __syncthreads();  // the tiles before were read
        load_rows(k_tile, pitch, keys + key * p.k_row, p.k_row, p.width, here, Int(TILE));
        load_rows(v_tile, p.value_width, values + key * p.v_row, p.v_row, p.value_width, here, Int(TILE));
        __syncthreads();
        A score[ROWS_OF_WARP];
        products(q_rows + warp * ROWS_OF_WARP * p.width, k_tile + lane * pitch, p.width, score);
        for (int r = 0; r < ROWS_OF_WARP; r++) {
            Int row = first + warp * ROWS_OF_WARP + r;
            score[r] = masked<T>(group, mask, row, key + lane, capped(p, score[r]));
            A largest = warp_max(score[r]);
            A before = high[r];
            if (largest > before || largest != largest) high[r] = largest;
            A weight = score[r] == -infinity<A>() ? A(0) : exp(score[r] - high[r]);
            A shrink = before == -infinity<A>() ? A(0) : exp(before - high[r]);
            sum[r] = sum[r] * shrink + warp_sum(weight);
            for (int c = 0; c < COLUMNS; c++) result[r][c] *= shrink;
            score[r] = weight;
        }
        add_rows(result, score, v_tile, p.value_width, p.value_width);
    }

    for (int r = 0; r < ROWS_OF_WARP; r++) {
        Int row = warp * ROWS_OF_WARP + r;
        if (row >= count) continue;
        Int query = group.query(first + row);
        if (parts > 1) {  // (parts, B H T, E + 2)
            A* to = partial + (blockIdx.z * (Int(gridDim.y) * p.group_rows()) + query) * (p.value_width + 2);
            for (int c = 0; c < COLUMNS; c++)
                if (lane + 32 * c < p.value_width) to[lane + 32 * c] = result[r][c];
            if (lane == 0) to[p.value_width] = high[r], to[p.value_width + 1] = sum[r];
            continue;
        }
        A scale = sum[r] == 0 ? A(0) : 1 / sum[r];
        for (int c = 0; c < COLUMNS; c++)
            if (lane + 32 * c < p.value_width)
                out[query * p.value_width + lane + 32 * c] = T(result[r][c] * scale);
        if (lane == 0) {
            high_out[query] = abs(high[r]) < infinity<A>() ? high[r] : A(0);
            log_sum_out[query] = sum[r] == 0 ? infinity<A>() : log(sum[r]);
        }
    }
}

// Joins the parts (parts, rows, E + 2) of each row: values that were weighted, the largest score and
// the sum of weights. One warp a row.
template <class T>
__device__ void join_parts(const computed<T>* partial, T* out, computed<T>* high_out,
                           computed<T>* log_sum_out, Int parts, Int rows, Int width) {
    typedef computed<T> A;
    int lane = threadIdx.x % 32;
    Int row = Int(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    auto part = [&](Int i) { return partial + (i * rows + row) * (width + 2); };
    A high = -infinity<A>(), sum = 0;
    for (Int i = 0; i < parts; i++) {
        A other = part(i)[width];
        high = other > high || other != other ? other : high;
    }
    auto shrink = [&](Int i) {
        A other = part(i)[width];
        return other == -infinity<A>() ? A(0) : exp(other - high);
    };
    for (Int i = 0; i < parts; i++) sum += part(i)[width + 1] * shrink(i);
    for (Int c = lane; c < width; c += 32) {
        A x = 0;
        for (Int i = 0; i < parts; i++) x += part(i)[c] * shrink(i);
        out[row * width + c] = T(sum == 0 ? A(0) : x / sum);
    }
    if (lane == 0) {
        high_out[row] = abs(high) < infinity<A>() ? high : A(0);
        log_sum_out[row] = sum == 0 ? infinity<A>() : log(sum);
    }
}

#define FORWARD(COLUMNS, NAME, T)                                                              \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_##COLUMNS##_##NAME(            \
        const T* q, const T* k, const T* v, const void* mask, T* out, computed<T>* high,       \
        computed<T>* log_sum, computed<T>* partial, Int parts, PROBLEM_PARAMETERS) {           \
        attention<T, COLUMNS / 32>(q, k, v, mask, out, high, log_sum, partial, parts, PROBLEM); \
    }
#define EXPORT(NAME, T)                                                                        \
    FORWARD(64, NAME, T)                                                                       \
    FORWARD(128, NAME, T)                                                                      \
    FORWARD(256, NAME, T)                                                                      \
    extern "C" __global__ void join_parts_##NAME(const computed<T>* partial, T* out,           \
                                                 computed<T>* high, computed<T>* log_sum,      \
                                                 Int parts, Int rows, Int width) {             \
        join_parts(partial, out, high, log_sum, parts, rows, width);                           \
    }
FOR_EACH_FLOAT(EXPORT)
