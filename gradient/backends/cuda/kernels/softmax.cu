// Softmax and log-softmax over the columns of each row, with their gradients.
//
//     high = max(x),  sum = sum of e^(x - high)
//     softmax = e^(x - high) / sum,  log_softmax = x - high - log(sum)
//
// Rows that fit in a block's registers are read once. For others, the largest number and the sum of
// exponentials are computed in one pass (Milakov and Gimelshein 2018, "Online normalizer calculation for
// softmax"), so they are read twice; the second read mostly hits the cache. Grid: one block per row.
#include "rows.cuh"

// The largest number of a part of a row, and the sum of e^(x - high) over that part.
template <class A> struct Normalizer {
    A high, sum;
    __device__ Normalizer from_lane_xor(unsigned mask, int distance) const {
        return {__shfl_xor_sync(mask, high, distance), __shfl_xor_sync(mask, sum, distance)};
    }
};

template <class A> __device__ Normalizer<A> joined(Normalizer<A> x, Normalizer<A> y) {
    // NaN counts as larger than every number, so it propagates.
    A high = x.high > y.high || x.high != x.high ? x.high : y.high;
    if (high == -infinity<A>()) return {high, 0};
    return {high, (x.sum == 0 ? x.sum : x.sum * exp(x.high - high)) +
                      (y.sum == 0 ? y.sum : y.sum * exp(y.high - high))};
}

// In one pass: a new largest number rescales the sum; any other adds its exponential.
template <class T>
__device__ Normalizer<computed<T>> row_normalizer(const T* row, Int columns) {
    typedef computed<T> A;
    Normalizer<A> mine = {-infinity<A>(), 0};
    each_column(columns, [&](Int, A x) {
        const A above = x == mine.high ? A(0) : x - mine.high, scale = exp(-abs(above));
        mine.sum = above > 0 ? mine.sum * scale + 1 : mine.sum + scale;
        if (!(above <= 0)) mine.high = larger(x, mine.high);
    }, row);
    return block_reduce(mine, Normalizer<A>{-infinity<A>(), 0}, joined<A>);
}

// In two passes: the row is in registers.
template <class T>
__device__ Normalizer<computed<T>> row_normalizer(const Held<T>& row, Int columns) {
    typedef computed<T> A;
    A high = -infinity<A>(), sum = 0;
    ByRegisters::each(columns, [&](Int, A x) { high = larger(x, high); }, row);
    high = block_max(high);
    ByRegisters::each(columns, [&](Int, A x) { sum += exp(x - high); }, row);
    return {high, block_sum(sum)};
}

template <class Way, class T> __device__ void softmax(const T* x, T* out, Int columns) {
    typedef computed<T> A;
    const auto row = Way::hold(x + blockIdx.x * columns, columns);
    const auto whole = row_normalizer(row, columns);
    const A scale = 1 / whole.sum;
    Way::map(columns, out + blockIdx.x * columns, [&](Int, A x) { return exp(x - whole.high) * scale; }, row);
}

template <class Way, class T> __device__ void log_softmax(const T* x, T* out, Int columns) {
    typedef computed<T> A;
    const auto row = Way::hold(x + blockIdx.x * columns, columns);
    const auto whole = row_normalizer(row, columns);
    const A log_sum = log(whole.sum);
    Way::map(columns, out + blockIdx.x * columns, [&](Int, A x) { return x - whole.high - log_sum; }, row);
}

// gx = out * (g - sum(g * out))
template <class Way, class T>
__device__ void softmax_grad(const T* g, const T* out, T* gx, Int columns) {
    typedef computed<T> A;
    const Int start = blockIdx.x * columns;
    const auto of_g = Way::hold(g + start, columns), of_out = Way::hold(out + start, columns);
    A dot = 0;
    Way::each(columns, [&](Int, A g, A p) { dot += g * p; }, of_g, of_out);
    dot = block_sum(dot);
    Way::map(columns, gx + start, [&](Int, A g, A p) { return p * (g - dot); }, of_g, of_out);
}

// gx = g - e^out * sum(g)
template <class Way, class T>
__device__ void log_softmax_grad(const T* g, const T* out, T* gx, Int columns) {
    typedef computed<T> A;
    const Int start = blockIdx.x * columns;
    const auto of_g = Way::hold(g + start, columns), of_out = Way::hold(out + start, columns);
    A sum = 0;
    Way::each(columns, [&](Int, A g) { sum += g; }, of_g);
    sum = block_sum(sum);
    Way::map(columns, gx + start, [&](Int, A g, A log_p) { return g - exp(log_p) * sum; }, of_g, of_out);
}

#define EXPORT_WAY(KERNEL, WAY, SUFFIX, NAME, T)                                             \
    KERNEL softmax##SUFFIX##_##NAME(const T* x, T* out, Int columns) {                       \
        softmax<WAY>(x, out, columns);                                                       \
    }                                                                                        \
    KERNEL log_softmax##SUFFIX##_##NAME(const T* x, T* out, Int columns) {                   \
        log_softmax<WAY>(x, out, columns);                                                   \
    }                                                                                        \
    KERNEL softmax_grad##SUFFIX##_##NAME(const T* g, const T* out, T* gx, Int columns) {     \
        softmax_grad<WAY>(g, out, gx, columns);                                              \
    }                                                                                        \
    KERNEL log_softmax_grad##SUFFIX##_##NAME(const T* g, const T* out, T* gx, Int columns) { \
        log_softmax_grad<WAY>(g, out, gx, columns);                                          \
    }
#define EXPORT(NAME, T)                        \
    EXPORT_WAY(ROW_KERNEL, ByCache, , NAME, T) \
    EXPORT_WAY(HELD_ROW_KERNEL, ByRegisters, _held, NAME, T)
FOR_EACH_FLOAT(EXPORT)
