// Shared by the attention kernels: the sizes of a problem, tiles in shared memory, and the score of
// a query and a key.
#pragma once
#include "numbers.cuh"

constexpr int WARPS = 4;               // per block
constexpr int ROWS_OF_WARP = 4;        // rows per warp, with results in registers
constexpr int ROWS = WARPS * ROWS_OF_WARP;
constexpr int TILE = 32;               // rows of the other side, one per lane

// Queries q (B, H, T, D) are read in groups of H / Hk heads that share keys k (B, Hk, S, D) and
// values v (B, Hk, S, E). The rows of a group are numbered head * T + t. Strides count elements.
struct Problem {
    Int heads, key_heads, queries, keys, width, value_width;
    Int k_batch, k_head, k_row, v_batch, v_head, v_row;
    Int mask_kind;  // 0 none, 1 bool, 2 added, of the queries' type, 3 added, float32
    Int mask_batch, mask_head, mask_query, mask_key;
    Int causal, window;  // window 0: none
    double scale, softcap;  // softcap 0: none

    // Heads are counted in 32 bits: a 64-bit division is a call of some hundred instructions.
    __device__ int heads_of_group() const { return int(heads) / int(key_heads); }
    __device__ Int group_rows() const { return heads_of_group() * queries; }
};

#define PROBLEM_PARAMETERS                                                                         \
    Int heads, Int key_heads, Int queries, Int keys, Int width, Int value_width, Int k_batch,      \
        Int k_head, Int k_row, Int v_batch, Int v_head, Int v_row, Int mask_kind, Int mask_batch,  \
        Int mask_head, Int mask_query, Int mask_key, Int causal, Int window, double scale,         \
        double softcap
#define PROBLEM                                                                                    \
    Problem {                                                                                      \
        heads, key_heads, queries, keys, width, value_width, k_batch, k_head, k_row, v_batch,      \
            v_head, v_row, mask_kind, mask_batch, mask_head, mask_query, mask_key, causal, window, \
            scale, softcap                                                                         \
    }

// One group: the part of the arrays for blocks with this blockIdx.y.
struct Group {
    Int batch, key_head;
    const Problem& problem;

    __device__ Group(const Problem& problem)
        : batch(blockIdx.y / unsigned(problem.key_heads)),
          key_head(blockIdx.y % unsigned(problem.key_heads)), problem(problem) {}
    // The index of the group's row `row` among all (B, H, T).
    __device__ Int query(Int row) const {
        return (batch * problem.heads + key_head * problem.heads_of_group()) *
                   problem.queries + row;
    }
    __device__ Int k_offset() const { return batch * problem.k_batch + key_head * problem.k_head; }
    __device__ Int v_offset() const { return batch * problem.v_batch + key_head * problem.v_head; }
};

// The range of keys that any of the rows first..last may see by causality and the window. 32-bit
// row numbers use 32-bit division: a 64-bit one is a call of some hundred instructions.
template <class I>
__device__ void key_range(const Problem& p, I first, I last, Int& begin, Int& end) {
    begin = 0, end = p.keys;
    if (!p.causal) return;
    const I queries = I(p.queries), head = first / queries;
    const bool one_head = last < (head + 1) * queries;
    Int earliest = one_head ? first - head * queries : 0;
    Int latest = one_head ? last - head * queries : queries - 1;
    if (latest + 1 < end) end = latest + 1;
    if (p.window > 0 && earliest - p.window + 1 > 0) begin = earliest - p.window + 1;
}

// The rows of a group (or the keys) that a block computes, up to SIZE from `first` on, and the
// warp's equal share of them. The last block has fewer.
template <int SIZE> struct RowsOfBlock {
    static constexpr int OF_WARP = SIZE / WARPS;
    int first, count;    // of the block
    int of_warp, here;   // of the warp: its first row in the block, and how many rows it has, if above 0
    __device__ RowsOfBlock(int block, Int rows)
        : first(block * SIZE), count(min(SIZE, int(rows) - first)), of_warp(threadIdx.x / 32 * OF_WARP),
          here(min(OF_WARP, count - of_warp)) {}
    __device__ int last() const { return first + count - 1; }
    __device__ int row() const { return first + of_warp; }  // the warp's first
};

// The tile of rows that a block computes. With causal masks late rows see the most keys, so they
// start first.
__device__ inline int tile_of_block(bool causal) {
    return int(causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
}

// Narrows the keys begin..end to this block's part, one of `parts`, in whole tiles of SIZE keys.
template <int SIZE>
__device__ void part_of_keys(Int begin, Int end, Int parts, int& from, int& until) {
    const int tiles = (max(int(end - begin), 0) + SIZE - 1) / SIZE;
    const int of_part = (parts == 1 ? tiles : (tiles + int(parts) - 1) / int(parts)) * SIZE;
    from = int(begin) + int(blockIdx.z) * of_part, until = min(int(end), from + of_part);
}

// The score of a product q k^T, scaled and capped, without the mask.
template <class A> __device__ A capped(const Problem& p, A product) {
    product *= A(p.scale);
    return p.softcap > 0 ? A(p.softcap) * tanh(product / A(p.softcap)) : product;
}

// The offset of the mask's element for a row of the group and a key.
__device__ inline Int mask_at(const Group& group, Int row, Int key) {
    const Problem& p = group.problem;
    if (p.mask_kind == 0) return 0;
    const int queries = int(p.queries), r = int(row);
    const Int head = group.key_head * p.heads_of_group() + r / queries;
    return group.batch * p.mask_batch + head * p.mask_head + r % queries * p.mask_query + key * p.mask_key;
}

// The masked score of the `key`th key from offset `at` on.
template <class T, class A>
__device__ A masked(const Problem& p, const void* mask, Int at, int key, A score) {
    if (p.mask_kind == 0) return score;
    at += key * p.mask_key;
    if (p.mask_kind == 1)
        return static_cast<const unsigned char*>(mask)[at] ? score : -infinity<A>();
    if (p.mask_kind == 3) return score + A(static_cast<const float*>(mask)[at]);
    return score + A(static_cast<const T*>(mask)[at]);
}

// The masked score: -inf if row `row` of the group may not see `key`.
template <class T, class A>
__device__ A masked(const Group& group, const void* mask, Int row, Int key, A score) {
    const Problem& p = group.problem;
    if (row >= p.group_rows() || key >= p.keys) return -infinity<A>();
    Int t = row % p.queries;
    if (p.causal && (key > t || (p.window > 0 && key <= t - p.window))) return -infinity<A>();
    return masked<T>(p, mask, mask_at(group, row, key), 0, score);
}

// Where results are written: (B, H, T, E) and (B, H, T, 1). With several parts: (parts, B H T, E +
// 2), the weighted values, the largest score and the sum of weights. `high` and `log_sum` may be
// null. flash_attention.cuh also takes the strides of `out`, so heads may be adjacent.
template <class T> struct Results {
    T* out;
    computed<T>*high, *log_sum, *partial;
    Int parts;
    Int batch, head, row;

    // The result of this block's part for a row of all (B, H, T).
    __device__ computed<T>* of_part(const Problem& p, Int query) const {
        const Int all = p.heads * p.queries * (gridDim.y / unsigned(p.key_heads));
        return partial + (blockIdx.z * all + query) * (p.value_width + 2);
    }
    // Stores a row's largest score and the logarithm of its sum of e^(score - largest). A row that
    // sees no key gets 0 and infinity, as the gradients need; one whose scores are not finite gets
    // 0 for the largest.
    __device__ void set_statistics(Int row, computed<T> largest, computed<T> sum) const {
        typedef computed<T> A;
        if (!high) return;
        high[row] = abs(largest) < infinity<A>() && sum == sum ? largest : A(0);
        log_sum[row] = sum == 0 || largest == infinity<A>() ? infinity<A>() : log(sum);
    }
};

// Copies `count` rows of `width` elements, `stride` apart, to rows in shared memory, `pitch` apart;
// rows from `count` to `room` become zeros. All threads of the block call it.
template <class T, class A>
__device__ void load_rows(A* to, Int pitch, const T* from, Int stride, Int width, Int count, Int room) {
    int wide = int(width), all = int(room) * wide;  // 32 bits: 64-bit division is slow
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
        int row = i / wide, column = i % wide;
        to[row * int(pitch) + column] = row < count ? A(from[row * stride + column]) : A(0);
    }
}

// The dot products of a warp's rows (`width` apart) with this lane's row of the tile.
template <class A>
__device__ void products(const A* rows, const A* of_lane, Int width, A (&result)[ROWS_OF_WARP]) {
    for (int r = 0; r < ROWS_OF_WARP; r++) result[r] = 0;
    for (Int d = 0; d < width; d++) {
        A x = of_lane[d];
#pragma unroll
        for (int r = 0; r < ROWS_OF_WARP; r++) result[r] += rows[r * width + d] * x;
    }
}

// sum[r][c] += weight[r] of each lane times that lane's row of the tile; this lane has columns
// lane, lane + 32, ...
template <int COLUMNS, class A>
__device__ void add_rows(A (&sum)[ROWS_OF_WARP][COLUMNS], const A (&weight)[ROWS_OF_WARP],
                         const A* tile, Int pitch, Int width) {
    __shared__ Pack<A, ROWS_OF_WARP> weights[WARPS][TILE];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncwarp();  // previous weights are no longer read
    for (int r = 0; r < ROWS_OF_WARP; r++) weights[warp][lane].values[r] = weight[r];
    __syncwarp();
    for (int j = 0; j < TILE; j++) {
        const auto of_row = weights[warp][j];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            Int column = lane + 32 * c;
            A x = column < width ? tile[j * pitch + column] : A(0);
#pragma unroll
            for (int r = 0; r < ROWS_OF_WARP; r++) sum[r][c] += of_row.values[r] * x;
        }
    }
}

template <class A> __device__ A warp_max(A x) {
    for (int distance = 16; distance > 0; distance /= 2) {
        A other = __shfl_xor_sync(0xffffffffu, x, distance);
        x = other > x || other != other ? other : x;
    }
    return x;
}

template <class A> __device__ A warp_sum(A x) {
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}
