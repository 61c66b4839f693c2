// Shared by the attention kernels of 16-bit floats: tiles in shared memory, and their products by
// tensor cores (Dao 2023, "FlashAttention-2").
//
// A tile has rows of HEAD elements; missing rows are zeros. Rows are HEAD + 8 elements apart: the
// 16 bytes between them put 8 rows into 8 different groups of banks, so that ldmatrix has no
// conflicts, and have room for a row's statistics.
//
// A block has 4 warps. Each warp has M times 16 rows of one tile, and processes N times 8 rows of
// the other side's tile, which all warps share, at a time. Attention and its gradients are products
// of two kinds (`row_products`, `add_weighted`). The second kind takes its operands in the
// registers in which the first leaves its results, so scores and probabilities are never stored in
// memory.
//
//     scores  q k^T, k q^T    out  p v        gk  ds^T q
//     dots    g v^T, v g^T    gq   ds k       gv  p^T g
#pragma once
#include <tensor_cores.cuh>

#include "attention.cuh"

constexpr int THREADS = 32 * WARPS;
constexpr float LOG2_E = 1.44269504f;

template <int HEAD> constexpr int pitch = HEAD + 8;

// The rows of an array (B, H, T, width) that belong to one group, from its row `first` on.
template <class T> struct GroupRows {
    T* group;
    Int of_head, of_row;
    int queries, head, query;

    __device__ GroupRows(T* array, Int of_batch, Int of_head, Int of_row, const Group& of, int head,
                         int query)
        : of_head(of_head), of_row(of_row), queries(int(of.problem.queries)), head(head), query(query) {
        const Problem& p = of.problem;
        group = array + of.batch * of_batch + of.key_head * p.heads_of_group() * of_head;
    }
    __device__ GroupRows(T* array, Int of_batch, Int of_head, Int of_row, const Group& of, int first)
        : GroupRows(array, of_batch, of_head, of_row, of, first / int(of.problem.queries),
                    first % int(of.problem.queries)) {}
    __device__ T* operator()(int row) const {
        int h = head, t = query + row;
        if (t >= queries) h += t / queries, t %= queries;
        return group + h * of_head + t * of_row;
    }
};

// Starts copying `count` rows, row_at(0), row_at(1), ..., to a tile of ROOM rows; the others become
// zeros. All BY threads (a block, or a warp) call it.
template <int HEAD, int ROOM, int BY = THREADS, class T, class F>
__device__ void load_tile(T* tile, int count, int width, F row_at) {
    constexpr int PIECES = HEAD / 8, STEP = BY / PIECES;
    if constexpr (BY % PIECES == 0) {  // a thread copies the same columns of each row
        const int first = threadIdx.x % BY / PIECES, column = threadIdx.x % PIECES * 8;
        const bool inside = column < width;
        T* to = tile + first * pitch<HEAD> + column;
#pragma unroll(BY == THREADS && ROOM / STEP <= 4 ? 4 : 1)
        for (int row = 0; row < ROOM; row += STEP) {
            if (ROOM % STEP && first + row >= ROOM) break;
            const bool there = inside && first + row < count;
            const T* from = row_at(there ? first + row : 0) + (there ? column : 0);
            cp_async(to + row * pitch<HEAD>, from, there ? 16 : 0);
        }
    } else {
#pragma unroll 1
        for (int i = threadIdx.x % BY; i < ROOM * PIECES; i += BY) {
            const int row = i / PIECES, column = i % PIECES * 8;
            const bool there = row < count && column < width;
            const T* from = row_at(there ? row : 0) + (there ? column : 0);
            cp_async(tile + row * pitch<HEAD> + column, from, there ? 16 : 0);
        }
    }
}

// The same for rows that are `apart` elements apart, from `first` on: the address of a load costs
// an addition. Missing rows are not read. A thread starts AT_ONCE copies in each turn of its loop.
template <int HEAD, int ROOM, int BY = THREADS, int AT_ONCE = 1, class T>
__device__ void load_rows_apart(T* tile, int count, int width, const T* first, Int apart) {
    constexpr int PIECES = HEAD / 8, STEP = BY / PIECES;
    if constexpr (BY % PIECES == 0) {
        const int of_thread = threadIdx.x % BY / PIECES, column = threadIdx.x % PIECES * 8;
        const int there = column < width ? count - of_thread : 0;
        const T* from = first + of_thread * apart + column;
        T* to = tile + of_thread * pitch<HEAD> + column;
#pragma unroll(AT_ONCE)
        for (int row = 0; row < ROOM; row += STEP) {
            if (ROOM % STEP && of_thread + row >= ROOM) break;
            cp_async(to + row * pitch<HEAD>, from, row < there ? 16 : 0);
            from += STEP * apart;
        }
    } else {
        load_tile<HEAD, ROOM, BY>(tile, count, width, [&](int i) { return first + i * apart; });
    }
}

// The warp's rows of tile `a`, in steps of 16 columns.
template <int HEAD, class T> struct TileRows {
    const T* at;
    __device__ explicit TileRows(const T* a)
        : at(a + threadIdx.x % 16 * pitch<HEAD> + threadIdx.x % 32 / 16 * 8) {}
    __device__ void step(int k, int m, unsigned (&to)[4]) const {
        ldmatrix(to, at + 16 * m * pitch<HEAD> + k);
    }
};

// The same in registers, for rows that are multiplied by many tiles: read once from shared memory.
template <int HEAD, class T, int M> struct HeldRows {
    unsigned of[HEAD / 16][M][4];
    __device__ explicit HeldRows(const T* a) {
        const TileRows<HEAD, T> rows(a);
#pragma unroll
        for (int k = 0; k < HEAD / 16; k++)
#pragma unroll
            for (int m = 0; m < M; m++) rows.step(16 * k, m, of[k][m]);
    }
    __device__ void step(int k, int m, unsigned (&to)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) to[i] = of[k / 16][m][i];
    }
};

template <bool FIRST, class A, class B> struct Either { typedef A type; };
template <class A, class B> struct Either<false, A, B> { typedef B type; };

// out += a b^T: the warp's rows `a` times the rows of tile `b`.
template <int HEAD, class ROWS_OF_A, class T, int M, int N>
__device__ void add_row_products(float (&out)[M][N][4], const ROWS_OF_A& a, const T* b) {
    const int lane = threadIdx.x % 32;
    const T* b_row = b + (lane % 8 + lane / 16 * 8) * pitch<HEAD> + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < HEAD; k += 16) {
        unsigned of_a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) a.step(k, m, of_a[m]);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned both[4];
            ldmatrix(both, b_row + 8 * n * pitch<HEAD> + k);
            const unsigned first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16<T>(out[m][n], of_a[m], first);
                mma_m16n8k16<T>(out[m][n + 1], of_a[m], second);
            }
        }
    }
}

// out = a b^T.
template <int HEAD, class ROWS_OF_A, class T, int M, int N>
__device__ void row_products(float (&out)[M][N][4], const ROWS_OF_A& a, const T* b) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) out[m][n][i] = 0;
    add_row_products<HEAD>(out, a, b);
}

// sum += weights b. `weights` are those of the warp's rows, one for each row of tile `b`, rounded
// to T.
template <int HEAD, class T, int M, int N>
__device__ void add_weighted(float (&sum)[M][HEAD / 8][4], const float (&weights)[M][N][4], const T* b) {
    const int lane = threadIdx.x % 32;
    const T* b_row = b + lane % 16 * pitch<HEAD> + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < N; k += 2) {
        unsigned of_a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float(&d)[4] = weights[m][k + i / 2];
                of_a[m][i] = two<T>(d[i % 2 * 2], d[i % 2 * 2 + 1]);
            }
#pragma unroll
        for (int n = 0; n < HEAD / 8; n += 2) {
            unsigned both[4];
            ldmatrix_trans(both, b_row + 8 * k * pitch<HEAD> + 8 * n);
            const unsigned first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16<T>(sum[m][n], of_a[m], first);
                mma_m16n8k16<T>(sum[m][n + 1], of_a[m], second);
            }
        }
    }
}

// Rounds the warp's rows times `scale` and writes `count` of them, in packs of 16 bytes, to
// row_at(0), row_at(1), ..., through a tile's rows that only this warp uses.
template <int HEAD, class T, int M, class F>
__device__ void store_rows(F row_at, int width, int count, const float (&values)[M][HEAD / 8][4],
                           float scale, T* rows) {
    constexpr int PIECES = HEAD / 8;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < HEAD / 8; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float(&d)[4] = values[m][n];
                T* at = rows + (16 * m + 8 * half + lane / 4) * pitch<HEAD> + 8 * n + lane % 4 * 2;
                *reinterpret_cast<unsigned*>(at) = two<T>(d[2 * half] * scale, d[2 * half + 1] * scale);
            }
    __syncwarp();
    for (int i = lane; i < 16 * M * PIECES; i += 32) {
        const int row = i / PIECES, column = i % PIECES * 8;
        if (row < count && column < width)
            *reinterpret_cast<uint4*>(row_at(row) + column) =
                *reinterpret_cast<const uint4*>(rows + row * pitch<HEAD> + column);
    }
}

// tanh by a multiplication, an exponential and a division; accurate to 7 digits relative to 1.
__device__ inline float quick_tanh(float x) {
    return 1 - __fdividef(2.f, power_of_two(2 * LOG2_E * x) + 1);
}

// Whether all of the rows first_row..last_row may see all of the keys first_key..last_key.
__device__ inline bool sees_all(const Problem& p, int first_row, int last_row, int first_key, int last_key) {
    if (p.mask_kind || last_row >= int(p.group_rows()) || last_key >= int(p.keys)) return false;
    if (!p.causal) return true;
    const int queries = int(p.queries), begin = first_row / queries * queries;
    return last_row < begin + queries && last_key <= first_row - begin &&
           (p.window == 0 || first_key > last_row - begin - int(p.window));
}

// A range of keys that all of the rows first_row..last_row may see.
__device__ inline void seen_by_all(const Problem& p, int first_row, int last_row, int& from, int& until) {
    from = 0, until = p.mask_kind ? 0 : int(p.keys);
    if (!p.causal) return;
    const int queries = int(p.queries), head = first_row / queries;
    const bool one_head = last_row / queries == head;
    until = min(until, (one_head ? first_row - head * queries : 0) + 1);
    if (p.window) from = (one_head ? last_row - head * queries : queries - 1) - int(p.window) + 1;
}

// Scales scores, and caps them if `softcap` is not 0.
template <int M, int N>
__device__ void cap_scores(float (&score)[M][N][4], float scale, float softcap) {
    const float inner = softcap > 0 ? scale / softcap : scale;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[m][n][i] *= inner;
    if (softcap > 0)
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) score[m][n][i] = softcap * quick_tanh(score[m][n][i]);
}

// The factor from a product q k^T to a score. It is applied at once, or (`later` is not 1) with the
// exponential, which saves two instructions. The latter needs scores without a cap or an additive
// mask, and a factor that neither changes the sign of -inf nor makes a finite number infinite.
struct Scaling {
    float now, later, softcap;
    __device__ explicit Scaling(const Problem& p)
        : now(float(p.scale)), later(1), softcap(float(p.softcap)) {
        if (!(p.softcap > 0) && p.mask_kind < 2 && now > 1e-30f && now < 0.69f) later = now, now = 1;
    }
    template <int M, int N> __device__ void apply(float (&score)[M][N][4]) const {
        if (later == 1) cap_scores(score, now, softcap);
    }
};

// Masks scores: -inf if one of the warp's rows, from row `first_row` of the group on, may not see a
// key from `first_key` on; an additive mask is added.
template <class T, int M, int N>
__device__ void mask_scores(float (&score)[M][N][4], const Group& group, const void* mask,
                            int first_row, int first_key) {
    const Problem& p = group.problem;
    const int lane = threadIdx.x % 32, queries = int(p.queries), rows = int(p.group_rows());
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first_row + 16 * m + 8 * half + lane / 4, t = row % queries;
            const int key = first_key + lane % 4 * 2;
            int begin = 0, end = row < rows ? int(p.keys) : 0;  // keys that the row may see
            if (p.causal) {
                end = min(end, t + 1);
                if (p.window) begin = t - int(p.window) + 1;
            }
            begin -= key, end -= key;
            if (p.mask_kind) {
                const Int at = mask_at(group, row, key);
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int column = 8 * n + i;
                        float& s = score[m][n][2 * half + i];
                        if (column >= begin && column < end) s = masked<T>(p, mask, at, column, s);
                    }
            }
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int column = 8 * n + i;
                    if (column < begin || column >= end) score[m][n][2 * half + i] = -infinity<float>();
                }
        }
}

// The first tile of QUERIES rows, from row `row` on in steps of QUERIES, in which a row sees any of
// the keys first..last.
template <int QUERIES>
__device__ int next_tile(const Problem& p, int row, int first, int last) {
    const int rows = int(p.group_rows()), queries = int(p.queries);
    while (row < rows) {
        Int begin, end;
        key_range(p, row, min(row + QUERIES, rows) - 1, begin, end);
        if (begin <= last && end > first) break;
        const int t = row % queries;  // rows of this head see keys from `first` on, up to the end of the window
        row += max(1, ((t < first ? min(first, queries) : queries) - t) / QUERIES) * QUERIES;
    }
    return row;
}
