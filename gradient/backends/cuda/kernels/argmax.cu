// argmax and argmin: the first index of a line's largest number, or smallest; NaN counts as both.
//
//     argmax_rows      of each part of a row; indices count from the row's start
//     argmax_of_parts  of the results of a row's parts
//     argmax_columns   along the middle axis of x (outer, lines, inner)
//
// A thread reads its numbers in increasing order and keeps the first. Of two threads' equal results, the
// one that comes first in the line wins, so the order of comparison does not matter. The smallest is the
// largest of -x.
// Bytes: each number is read once; in rows, a thread has four loads of 16 bytes in flight.
// Grid: argmax_rows: one block per part; argmax_of_parts: one per row; argmax_columns: one block of
// 32 x 8 threads per 32 neighbours along the inner axis.
#include <following.cuh>

#include "rows.cuh"

template <class A> struct Place {
    A value;
    Int at;  // -1: no number above -infinity found
    __device__ Place from_lane_xor(unsigned mask, int distance) const {
        return {__shfl_xor_sync(mask, value, distance), __shfl_xor_sync(mask, at, distance)};
    }
};

template <class A> __device__ inline bool is_above(A x, A y) {
    return !(x <= y) && y == y;
}

template <class A> __device__ inline Place<A> nowhere() { return {-infinity<A>(), -1}; }

template <class A> __device__ inline Place<A> first_of(Place<A> x, Place<A> y) {
    if (x.at < 0 || y.at < 0) return x.at < 0 ? y : x;
    if (is_above(x.value, y.value)) return x;
    if (is_above(y.value, x.value)) return y;
    return x.at < y.at ? x : y;
}

template <class A> __device__ inline void look(Place<A>& best, A value, Int at) {
    if (is_above(value, best.value)) best = {value, at};
}

// The result of one thread's numbers, and of the `count` results in a block.
template <class T> __device__ Place<computed<T>> first_seen(const T* x, Int count, Int smallest) {
    typedef computed<T> A;
    Place<A> best = nowhere<A>();
    each_column(count, [&](Int at, A value) { look(best, smallest ? -value : value, at); }, x);
    return best;
}

template <class T>
__device__ void argmax_rows(const T* x, Int* out, Int columns, Int of_part, Int smallest, Int or_none) {
    trigger_next_kernel();
    wait_for_previous_kernel();
    typedef computed<T> A;
    const Int parts = (columns + of_part - 1) / of_part, start = blockIdx.x % parts * of_part;
    const T* from = x + blockIdx.x / parts * columns + start;
    Place<A> best = first_seen(from, min(of_part, columns - start), smallest);
    best = block_reduce(best, nowhere<A>(), first_of<A>);
    if (threadIdx.x) return;
    out[blockIdx.x] = or_none && !(best.value > -infinity<A>()) ? -1 : start + max(best.at, Int(0));
}

template <class T>
__device__ void argmax_of_parts(const T* x, const Int* places, Int* out, Int columns, Int parts,
                                Int smallest, Int or_none) {
    trigger_next_kernel();
    wait_for_previous_kernel();
    typedef computed<T> A;
    Place<A> best = nowhere<A>();
    for (Int part = threadIdx.x; part < parts; part += blockDim.x) {
        const Int at = places[blockIdx.x * parts + part];
        const A value = A(x[blockIdx.x * columns + at]);
        look(best, smallest ? -value : value, at);
    }
    best = block_reduce(best, nowhere<A>(), first_of<A>);
    if (threadIdx.x) return;
    out[blockIdx.x] = or_none && !(best.value > -infinity<A>()) ? -1 : max(best.at, Int(0));
}

constexpr int WIDTH = 32, TALL = 8;

template <class T>
__device__ void argmax_columns(const T* x, Int* out, Int lines, Int inner, Int smallest) {
    typedef computed<T> A;
    __shared__ A values[TALL][WIDTH];
    __shared__ Int places[TALL][WIDTH];
    const Int blocks = (inner + WIDTH - 1) / WIDTH, outer = blockIdx.x / blocks;
    const int lane = threadIdx.x % WIDTH, from = threadIdx.x / WIDTH;
    const Int column = blockIdx.x % blocks * WIDTH + lane;
    Place<A> best = nowhere<A>();
    if (column < inner)
        for (Int line = from; line < lines; line += TALL) {
            const A value = A(x[(outer * lines + line) * inner + column]);
            look(best, smallest ? -value : value, line);
        }
    values[from][lane] = best.value, places[from][lane] = best.at;
    __syncthreads();
    if (from || column >= inner) return;
    for (int k = 1; k < TALL; k++) best = first_of(best, Place<A>{values[k][lane], places[k][lane]});
    out[outer * inner + column] = max(best.at, Int(0));
}

#define EXPORT(NAME, T)                                                                           \
    ROW_KERNEL argmax_rows_##NAME(const T* x, Int* out, Int columns, Int of_part, Int smallest,   \
                                  Int or_none) {                                                  \
        argmax_rows(x, out, columns, of_part, smallest, or_none);                                 \
    }                                                                                             \
    ROW_KERNEL argmax_of_parts_##NAME(const T* x, const Int* places, Int* out, Int columns,       \
                                      Int parts, Int smallest, Int or_none) {                     \
        argmax_of_parts(x, places, out, columns, parts, smallest, or_none);                       \
    }                                                                                             \
    ROW_KERNEL argmax_columns_##NAME(const T* x, Int* out, Int lines, Int inner, Int smallest) {  \
        argmax_columns(x, out, lines, inner, smallest);                                           \
    }
FOR_EACH_FLOAT(EXPORT)
