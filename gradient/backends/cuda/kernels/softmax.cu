// Softmax and log-softmax over the columns of each row, with their gradients.
//
//     high = max(x),  sum = sum of e^(x - high)
//     softmax = e^(x - high) / sum,  log_softmax = x - high - log(sum)
//
// The largest number and the sum of exponentials are found in one pass (Milakov and Gimelshein
// 2018, "Online normalizer calculation for softmax"), so a row is read twice and written once; the
// second reading mostly meets the cache. Grid: one block a row.
#include "rows.cuh"

// The largest number of a part of a row, and the sum of e^(x - high) over that part.
template <class A> struct Normalizer {
    A high, sum;
    __device__ Normalizer from_lane_xor(unsigned mask, int distance) const {
        return {__shfl_xor_sync(mask, high, distance), __shfl_xor_sync(mask, sum, distance)};
    }
};

template <class A> __device__ Normalizer<A> joined(Normalizer<A> x, Normalizer<A> y) {
    // NaN is larger than every number, so it comes through.
    A high = x.high > y.high || x.high != x.high ? x.high : y.high;
    if (high == -infinity<A>()) return {high, 0};
    return {high, (x.sum == 0 ? x.sum : x.sum * exp(x.high - high)) +
                      (y.sum == 0 ? y.sum : y.sum * exp(y.high - high))};
}

template <class T> __device__ Normalizer<computed<T>> row_normalizer(const T* row, Int columns) {
    typedef computed<T> A;
    Normalizer<A> mine = {-infinity<A>(), 0};
    each_column(columns, [&](Int, A x) { mine = joined(mine, Normalizer<A>{x, 1}); }, row);
    return block_reduce(mine, Normalizer<A>{-infinity<A>(), 0}, joined<A>);
}

template <class T> __device__ void softmax(const T* x, T* out, Int columns) {
    typedef computed<T> A;
    x += blockIdx.x * columns, out += blockIdx.x * columns;
    auto whole = row_normalizer(x, columns);
    A scale = 1 / whole.sum;
    map_columns(columns, out, [&](Int, A x) { return exp(x - whole.high) * scale; }, x);
}

template <class T> __device__ void log_softmax(const T* x, T* out, Int columns) {
    typedef computed<T> A;
    x += blockIdx.x * columns, out += blockIdx.x * columns;
    auto whole = row_normalizer(x, columns);
    A log_sum = log(whole.sum);
    map_columns(columns, out, [&](Int, A x) { return x - whole.high - log_sum; }, x);
}

// gx = out * (g - sum(g * out))
template <class T> __device__ void softmax_grad(const T* g, const T* out, T* gx, Int columns) {
    typedef computed<T> A;
    Int start = blockIdx.x * columns;
    g += start, out += start, gx += start;
    A dot = 0;
    each_column(columns, [&](Int, A g, A p) { dot += g * p; }, g, out);
    dot = block_sum(dot);
    map_columns(columns, gx, [&](Int, A g, A p) { return p * (g - dot); }, g, out);
}

// gx = g - e^out * sum(g)
template <class T> __device__ void log_softmax_grad(const T* g, const T* out, T* gx, Int columns) {
    typedef computed<T> A;
    Int start = blockIdx.x * columns;
    g += start, out += start, gx += start;
    A sum = 0;
    each_column(columns, [&](Int, A g) { sum += g; }, g);
    sum = block_sum(sum);
    map_columns(columns, gx, [&](Int, A g, A log_p) { return g - exp(log_p) * sum; }, g, out);
}

#define EXPORT(NAME, T)                                                                            \
    ROW_KERNEL softmax_##NAME(const T* x, T* out, Int columns) {                                   \
        softmax(x, out, columns);                                                                  \
    }                                                                                              \
    ROW_KERNEL log_softmax_##NAME(const T* x, T* out, Int columns) {                               \
        log_softmax(x, out, columns);                                                              \
    }                                                                                              \
    ROW_KERNEL softmax_grad_##NAME(const T* g, const T* out, T* gx, Int columns) {                 \
        softmax_grad(g, out, gx, columns);                                                         \
    }                                                                                              \
    ROW_KERNEL log_softmax_grad_##NAME(const T* g, const T* out, T* gx,                            \
                                                       Int columns) {                              \
        log_softmax_grad(g, out, gx, columns);                                                     \
    }
FOR_EACH_FLOAT(EXPORT)
