// Copies between arrays of any strides, also to another number type.
//
//     cast       both contiguous: packs of 16 bytes of the destination, several in flight per thread
//     packs      runs of packs, aligned to 16 bytes on both sides: split or join heads, pad rows
//     rows       long unaligned runs (rows of 50257 halves): number by number, adjacent lanes of a warp
//     tiles      transposes: through 64 x 64 numbers of shared memory, so that a warp reads and writes
//                neighbours
//     elements   other cases, number by number in the order of the destination
//
// Each number is read and written once. Numbers of one type keep their bits.
#include "rows.cuh"

constexpr int MOST_AXES = 6;

// Axes from the fastest on: their sizes, and the strides of source and destination, in elements.
struct Walk {
    int axes, unused;
    Divisor size[MOST_AXES];
    Int from[MOST_AXES], to[MOST_AXES];
};

struct Places { Int from, to; };

__device__ inline Places places(const Walk& walk, unsigned item) {
    Places at = {0, 0};
#pragma unroll
    for (int i = 0; i < MOST_AXES; i++) {
        if (i == walk.axes) break;
        const unsigned rest = walk.size[i].divide(item), here = item - rest * walk.size[i].by;
        at.from += here * walk.from[i], at.to += here * walk.to[i];
        item = rest;
    }
    return at;
}

template <class To, class From> struct Cast {
    static __device__ To of(From x) { return To(computed<From>(x)); }
};
template <> struct Cast<__nv_bfloat16, double> {
    static __device__ __nv_bfloat16 of(double x) { return __nv_bfloat16(float(x)); }  // as on the CPU
};
template <class T> struct Cast<T, T> {
    static __device__ T of(T x) { return x; }
};

// Elements per 16-byte store: adjacent lanes write adjacent packs, so that no 32-byte sector of
// memory is written in halves. And packs in flight per thread: 64 bytes of the wider type.
template <class From, class To> constexpr int PACK = 16 / sizeof(To);
template <class From, class To> constexpr int IN_FLIGHT =
    64 / (PACK<From, To> * (sizeof(From) < sizeof(To) ? sizeof(To) : sizeof(From)));

template <class To, class From, int N> __device__ inline void store_cast(To* out, const Pack<From, N>& pack) {
    Pack<To, N> made;
#pragma unroll
    for (int k = 0; k < N; k++) made.values[k] = Cast<To, From>::of(pack.values[k]);
    *reinterpret_cast<Pack<To, N>*>(out) = made;
}

// Grid: one block per 256 * IN_FLIGHT packs; the last block also copies the remaining elements.
template <class From, class To> __device__ void cast(const From* x, To* out, Int count) {
    constexpr int N = PACK<From, To>, MANY = IN_FLIGHT<From, To>;
    const Int begin = Int(blockIdx.x) * (256 * MANY * N);
    const Int end = min(begin + 256 * MANY * N, count);
    const bool aligned = is_aligned<16 / sizeof(From)>(x) && is_aligned<16 / sizeof(To)>(out);
    if (aligned && end - begin == 256 * MANY * N) {
        Pack<From, N> packs[MANY];
        x += begin + threadIdx.x * N, out += begin + threadIdx.x * N;
#pragma unroll
        for (int i = 0; i < MANY; i++) packs[i] = load_pack<N>(x + i * 256 * N);
#pragma unroll
        for (int i = 0; i < MANY; i++) store_cast<To, From, N>(out + i * 256 * N, packs[i]);
        return;
    }
    Int in_packs = begin;
    if (aligned) {
        in_packs = begin + (end - begin) / N * N;
        for (Int i = begin + threadIdx.x * N; i < in_packs; i += 256 * N)
            store_cast<To, From, N>(out + i, load_pack<N>(x + i));
    }
    for (Int i = in_packs + threadIdx.x; i < end; i += 256) out[i] = Cast<To, From>::of(x[i]);
}

// Items of N elements. Grid: one block per 256 * IN_FLIGHT items.
template <int N, int MANY, class From, class To>
__device__ void copy_items(const From* x, To* out, const Walk& walk, unsigned items) {
    const unsigned first = blockIdx.x * (256 * MANY) + threadIdx.x;
    Pack<From, N> packs[MANY];
    Int to[MANY];
#pragma unroll
    for (int i = 0; i < MANY; i++) {
        if (first + i * 256 >= items) continue;
        const Places at = places(walk, first + i * 256);
        packs[i] = load_pack<N>(x + at.from), to[i] = at.to;
    }
#pragma unroll
    for (int i = 0; i < MANY; i++)
        if (first + i * 256 < items) store_cast<To, From, N>(out + to[i], packs[i]);
}

// Grid: one block per 4096 elements of a row; a thread has 16 of them in flight.
template <class From, class To>
__device__ void copy_rows(const From* x, To* out, const Walk& walk, Int columns, unsigned of_row) {
    constexpr int MANY = 16;
    const unsigned row = blockIdx.x / of_row;
    const Int begin = Int(blockIdx.x % of_row) * (256 * MANY) + threadIdx.x;
    const Places at = places(walk, row);
    x += at.from, out += at.to;
    From numbers[MANY];
#pragma unroll
    for (int i = 0; i < MANY; i++)
        if (begin + i * 256 < columns) numbers[i] = x[begin + i * 256];
#pragma unroll
    for (int i = 0; i < MANY; i++)
        if (begin + i * 256 < columns) out[begin + i * 256] = Cast<To, From>::of(numbers[i]);
}

// x[... + a + b * from_b] to out[... + a * to_a + b]. Grid: one block per tile of 64 a and 64 b.
template <class From, class To>
__device__ void copy_tiles(const From* x, To* out, const Walk& walk, int size_a, int size_b, Int from_b,
                           Int to_a) {
    constexpr int TILE = 64, PITCH = TILE + (sizeof(From) < 4 ? 4 / sizeof(From) : 1), WARPS = 8;
    __shared__ From tile[TILE][PITCH];
    const unsigned along_a = (size_a + TILE - 1) / TILE, along_b = (size_b + TILE - 1) / TILE;
    const unsigned in_plane = blockIdx.x % (along_a * along_b);
    const Places at = places(walk, blockIdx.x / (along_a * along_b));
    const int a = in_plane % along_a * TILE, b = in_plane / along_a * TILE;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x += at.from + a + b * from_b, out += at.to + a * to_a + b;
    From numbers[TILE / WARPS][2];
#pragma unroll
    for (int i = 0; i < TILE / WARPS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = warp + i * WARPS, column = lane + j * 32;
            if (b + row < size_b && a + column < size_a) numbers[i][j] = x[row * from_b + column];
        }
#pragma unroll
    for (int i = 0; i < TILE / WARPS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) tile[warp + i * WARPS][lane + j * 32] = numbers[i][j];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILE / WARPS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = warp + i * WARPS, column = lane + j * 32;
            if (a + row < size_a && b + column < size_b)
                out[row * to_a + column] = Cast<To, From>::of(tile[column][row]);
        }
}

#define EXPORT_CAST(NAME, T, TO_NAME, TO)                                            \
    extern "C" __global__ void __launch_bounds__(256, 6) cast_to_##TO_NAME##_##NAME( \
        const T* x, TO* out, Int count) {                                            \
        cast(x, out, count);                                                         \
    }
#define EXPORT_TO(NAME, T, TO_NAME, TO)                                                              \
    extern "C" __global__ void __launch_bounds__(256) packs_to_##TO_NAME##_##NAME(                   \
        const T* x, TO* out, const __grid_constant__ Walk walk, Int items) {                         \
        copy_items<PACK<T, TO>, IN_FLIGHT<T, TO>>(x, out, walk, unsigned(items));                    \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) elements_to_##TO_NAME##_##NAME(                \
        const T* x, TO* out, const __grid_constant__ Walk walk, Int items) {                         \
        copy_items<1, 8>(x, out, walk, unsigned(items));                                             \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) rows_to_##TO_NAME##_##NAME(                    \
        const T* x, TO* out, const __grid_constant__ Walk walk, Int columns, Int of_row) {           \
        copy_rows(x, out, walk, columns, unsigned(of_row));                                          \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) tiles_to_##TO_NAME##_##NAME(                   \
        const T* x, TO* out, const __grid_constant__ Walk walk, Int size_a, Int size_b, Int from_b,  \
        Int to_a) {                                                                                  \
        copy_tiles(x, out, walk, int(size_a), int(size_b), from_b, to_a);                            \
    }
// Contiguous copies of one type are made by the driver.
#define CASTS_float32(T)                              \
    EXPORT_CAST(float32, T, float64, double)          \
    EXPORT_CAST(float32, T, float16, __half)          \
    EXPORT_CAST(float32, T, bfloat16, __nv_bfloat16)
#define CASTS_float64(T)                              \
    EXPORT_CAST(float64, T, float32, float)           \
    EXPORT_CAST(float64, T, float16, __half)          \
    EXPORT_CAST(float64, T, bfloat16, __nv_bfloat16)
#define CASTS_float16(T)                              \
    EXPORT_CAST(float16, T, float32, float)           \
    EXPORT_CAST(float16, T, float64, double)          \
    EXPORT_CAST(float16, T, bfloat16, __nv_bfloat16)
#define CASTS_bfloat16(T)                             \
    EXPORT_CAST(bfloat16, T, float32, float)          \
    EXPORT_CAST(bfloat16, T, float64, double)         \
    EXPORT_CAST(bfloat16, T, float16, __half)
#define EXPORT(NAME, T)                               \
    CASTS_##NAME(T)                                   \
    EXPORT_TO(NAME, T, float32, float)                \
    EXPORT_TO(NAME, T, float64, double)               \
    EXPORT_TO(NAME, T, float16, __half)               \
    EXPORT_TO(NAME, T, bfloat16, __nv_bfloat16)
FOR_EACH_FLOAT(EXPORT)
