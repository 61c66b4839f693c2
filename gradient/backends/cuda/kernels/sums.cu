// Sums, maxima or minima of an array (outer, reduced, inner) over its middle axis; NaN counts as both the
// largest and the smallest.
//
//     inner 1: out[o] = sum of x[o, r] over r          one block, or one warp, per row
//     else:    out[o, i] = sum of x[o, r, i] over r    one block per tile of columns, whose warps divide
//                                                      the rows; one thread per pack if tiles are small
//
// Few columns are folded: several rows are read as one row of a warp's width, whose columns the
// block adds at the end. (1,000,000, 3) of float32 is read as 25,000 rows of 120.
//
// If there are few blocks, the middle axis is split into parts, whose partial sums, in the compute
// type, are added by the same kernels. So sums are deterministic: there are no atomic additions.
// 16-bit floats are summed in float32 and rounded once.
//
// Bytes: x is read once, 16 bytes per thread if it is aligned, with four such loads in flight.
#include "rows.cuh"

// The reduction of two numbers, and its neutral element.
struct Added {
    template <class A> static __device__ A both(A x, A y) { return x + y; }
    template <class A> static __device__ A start() { return 0; }
};
struct Largest {
    template <class A> static __device__ A both(A x, A y) { return larger(x, y); }
    template <class A> static __device__ A start() { return -infinity<A>(); }
};
struct Smallest {
    template <class A> static __device__ A both(A x, A y) { return smaller(x, y); }
    template <class A> static __device__ A start() { return infinity<A>(); }
};

template <class How, class A> __device__ A block_reduced(A value) {
    typedef Extreme<A> E;
    return block_reduce(E{value}, E{How::template start<A>()},
                        [](E x, E y) { return E{How::both(x.of, y.of)}; }).of;
}

// Grid: (rows, parts of a row). out[row * parts + part].
template <class How, class T, class To>
__device__ void reduce_rows(const T* x, To* out, Int columns, Int of_part) {
    const Int row = blockIdx.x, part = blockIdx.y, first = part * of_part;
    computed<T> sum = How::template start<computed<T>>();
    each_column(min(of_part, columns - first),
                [&](Int, computed<T> value) { sum = How::both(sum, value); }, x + row * columns + first);
    sum = block_reduced<How>(sum);
    if (threadIdx.x == 0) out[row * gridDim.y + part] = To(sum);
}

// Grid: blocks of as many rows as they have warps.
template <class How, class T, class To>
__device__ void reduce_short_rows(const T* x, To* out, Int rows, Int columns) {
    const Int row = Int(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    computed<T> sum = How::template start<computed<T>>();
    if (row < rows)
        each_element(threadIdx.x % 32, 32, columns,
                     [&](Int, computed<T> value) { sum = How::both(sum, value); }, x + row * columns);
    for (int distance = 16; distance > 0; distance /= 2)
        sum = How::both(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
    if (row < rows && threadIdx.x % 32 == 0) out[row] = To(sum);
}

constexpr int ROWS_UNDER_WAY = 4, SUM_WARPS = 8;

// A thread's pack of a row of `count` numbers, from `column` on; past the end, neutral elements.
template <class How, int N, class T>
__device__ inline Pack<T, N> load_columns(const T* row, Int column, Int count, bool in_packs) {
    if (in_packs && column + N <= count) return load_pack<N>(row + column);
    Pack<T, N> pack;
#pragma unroll
    for (int k = 0; k < N; k++)
        pack.values[k] = column + k < count ? row[column + k] : T(How::template start<computed<T>>());
    return pack;
}

// Reduces tiles of `width` columns or, if folded, of several rows of `inner` numbers; each o has
// `count` numbers.
// Grid: (tiles of 32 packs of columns, parts of the middle axis, outer); if folded, one tile.
// out[(outer * parts + part) * inner + column].
template <class How, class T, class To>
__device__ void reduce_columns(const T* x, To* out, Int outer, Int count, Int width, Int inner, Int of_part) {
    constexpr int N = 16 / sizeof(T);
    __shared__ computed<T> of_warp[SUM_WARPS][32 * N];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Int tile = Int(blockIdx.x) * 32 * N, part = blockIdx.y, column = tile + lane * N;
    const Int begin = part * of_part, end = min(begin + of_part, (count + width - 1) / width);
    for (Int o = blockIdx.z; o < outer; o += gridDim.z) {
        const T* rows = x + o * count;
        const bool in_packs = width % N == 0 && is_aligned<N>(rows);
        computed<T> sums[N];
#pragma unroll
        for (int k = 0; k < N; k++) sums[k] = How::template start<computed<T>>();
        for (Int r = begin + warp; r < end; r += SUM_WARPS * ROWS_UNDER_WAY) {
            Pack<T, N> packs[ROWS_UNDER_WAY];
#pragma unroll
            for (int i = 0; i < ROWS_UNDER_WAY; i++) {
                const Int row = r + i * SUM_WARPS, left = row < end ? min(width, count - row * width) : 0;
                packs[i] = load_columns<How, N>(rows + row * width, column, left, in_packs);
            }
#pragma unroll
            for (int i = 0; i < ROWS_UNDER_WAY; i++)
#pragma unroll
                for (int k = 0; k < N; k++) sums[k] = How::both(sums[k], computed<T>(packs[i].values[k]));
        }
#pragma unroll
        for (int k = 0; k < N; k++) of_warp[warp][k * 32 + lane] = sums[k];
        __syncthreads();
        for (int i = threadIdx.x; i < 32 * N; i += 32 * SUM_WARPS) {
            computed<T> sum = of_warp[0][i];
#pragma unroll
            for (int other = 1; other < SUM_WARPS; other++) sum = How::both(sum, of_warp[other][i]);
            const Int here = tile + i % 32 * N + i / 32;
            if (inner < width) of_warp[0][i] = sum;
            else if (here < inner) out[(o * gridDim.y + part) * inner + here] = To(sum);
        }
        __syncthreads();  // of_warp is written again, or has the folded sums
        if (inner == width) continue;
        if (threadIdx.x < inner) {
            computed<T> sum = How::template start<computed<T>>();
            for (int i = threadIdx.x; i < width; i += inner) sum = How::both(sum, of_warp[0][i % N * 32 + i / N]);
            out[(o * gridDim.y + part) * inner + threadIdx.x] = To(sum);
        }
        __syncthreads();
    }
}

// N columns of one o, row by row. Grid: threads for (outer, packs of columns).
template <class How, int N, class T, class To>
__device__ void reduce_small_tiles(const T* x, To* out, Int outer, Int reduced, Int inner) {
    const Int packs = inner / N, pack = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (pack >= outer * packs) return;
    const T* column = x + pack / packs * reduced * inner + pack % packs * N;
    computed<T> sums[N];
#pragma unroll
    for (int k = 0; k < N; k++) sums[k] = How::template start<computed<T>>();
    for (Int r = 0; r < reduced; r += ROWS_UNDER_WAY) {
        Pack<T, N> given[ROWS_UNDER_WAY];
#pragma unroll
        for (int i = 0; i < ROWS_UNDER_WAY; i++)
            if (r + i < reduced) given[i] = load_pack<N>(column + (r + i) * inner);
#pragma unroll
        for (int i = 0; i < ROWS_UNDER_WAY; i++)
#pragma unroll
            for (int k = 0; k < N; k++)
                if (r + i < reduced) sums[k] = How::both(sums[k], computed<T>(given[i].values[k]));
    }
    Pack<To, N> made;
#pragma unroll
    for (int k = 0; k < N; k++) made.values[k] = To(sums[k]);
    *reinterpret_cast<Pack<To, N>*>(out + pack * N) = made;
}

template <class How, class T, class To>
__device__ void reduce_small_tiles(const T* x, To* out, Int outer, Int reduced, Int inner, Int in_packs) {
    if (in_packs) reduce_small_tiles<How, 16 / sizeof(T)>(x, out, outer, reduced, inner);
    else reduce_small_tiles<How, 1>(x, out, outer, reduced, inner);
}

// SUFFIX parts: from the array's type to the compute type; join: the reverse. 3 resident blocks of
// columns allow 80 registers per thread.
#define EXPORT_OF_SHORT_ROWS(HOW, SUFFIX, DTYPE, FROM, TO)                                       \
    extern "C" __global__ void __launch_bounds__(256) short_rows_##SUFFIX##_##DTYPE(             \
        const FROM* x, TO* out, Int rows, Int columns) {                                         \
        reduce_short_rows<HOW>(x, out, rows, columns);                                           \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(32 * SUM_WARPS, 3) columns_##SUFFIX##_##DTYPE(  \
        const FROM* x, TO* out, Int outer, Int count, Int width, Int inner, Int of_part) {       \
        reduce_columns<HOW>(x, out, outer, count, width, inner, of_part);                        \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(256) small_tiles_##SUFFIX##_##DTYPE(            \
        const FROM* x, TO* out, Int outer, Int reduced, Int inner, Int in_packs) {               \
        reduce_small_tiles<HOW>(x, out, outer, reduced, inner, in_packs);                        \
    }
#define EXPORT_SUMS(HOW, SUFFIX, DTYPE, FROM, TO)                               \
    EXPORT_OF_SHORT_ROWS(HOW, SUFFIX, DTYPE, FROM, TO)                          \
    extern "C" __global__ void __launch_bounds__(1024) rows_##SUFFIX##_##DTYPE( \
        const FROM* x, TO* out, Int columns, Int of_part) {                     \
        reduce_rows<HOW>(x, out, columns, of_part);                             \
    }
#define EXPORT(NAME, T)                   \
    EXPORT_SUMS(Added, sum, NAME, T, T)   \
    EXPORT_SUMS(Largest, max, NAME, T, T) \
    EXPORT_SUMS(Smallest, min, NAME, T, T)
#define EXPORT_PARTS(NAME, T)                 \
    EXPORT_SUMS(Added, parts, NAME, T, float) \
    EXPORT_OF_SHORT_ROWS(Added, join, NAME, float, T)
FOR_EACH_FLOAT(EXPORT)
FOR_EACH_NARROW(EXPORT_PARTS)
