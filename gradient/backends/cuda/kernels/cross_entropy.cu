// Cross-entropy of the columns of each row, and its gradient; rows may be unaligned, as for a vocabulary
// of odd size.
//
//     high = max(x),  log_sum = log sum of e^(x - high)
//     loss of target t, smoothed by s  =  log_sum - (1 - s) (x[t] - high) - s mean(x - high)
//     gradient for x  =  g (e^(x - high - log_sum) - s / columns),  less g (1 - s) at t
//
// The largest number and the sum of exponentials are found in one pass (Milakov and Gimelshein 2018,
// "Online normalizer calculation for softmax"), by packs of 16 bytes. A pack's largest number comes
// first, so that each number costs one exponential, and each pack one more for the sum so far. Bytes:
// logits are read once for the loss; the gradient reads them again and is written once. A number takes
// about 15 instructions: less time than its 2 bytes. Grid: one block per row, several on a multiprocessor.
#include "rows.cuh"

// Blocks of up to 512 threads, with up to 64 registers each.
#define CLASS_KERNEL extern "C" __global__ void __launch_bounds__(512, 2)

// The larger number; if one is NaN, the other.
__device__ inline float larger_number(float a, float b) { return fmaxf(a, b); }
__device__ inline double larger_number(double a, double b) { return fmax(a, b); }

// Calls taker.take with this thread's numbers of a row: in whole packs where possible, with several
// loads in flight.
template <class T, class Taker> __device__ inline void take_row(const T* x, Int columns, Taker& taker) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T), MANY = sizeof(T) == 8 ? 1 : 4;
    const Int before = min(before_load(x), columns);
    const unsigned packs = unsigned((columns - before) / N);
    if (threadIdx.x < before) {
        const A one[1] = {A(x[threadIdx.x])};
        taker.take(one);
    }
    const T* in_packs = x + before;
    for (unsigned first = threadIdx.x; first < packs; first += MANY * blockDim.x) {
        Pack<T, N> held[MANY];
#pragma unroll
        for (int i = 0; i < MANY; i++)
            if (first + i * blockDim.x < packs) held[i] = load_pack<N>(in_packs + Int(first + i * blockDim.x) * N);
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            if (first + i * blockDim.x >= packs) break;
            A numbers[N];
#pragma unroll
            for (int k = 0; k < N; k++) numbers[k] = A(held[i].values[k]);
            taker.take(numbers);
        }
    }
    for (Int i = before + Int(packs) * N + threadIdx.x; i < columns; i += blockDim.x) {
        const A one[1] = {A(x[i])};
        taker.take(one);
    }
}

// The largest number except NaN, and the sum of e^(x - high), which is NaN if any number was.
template <class A> struct Exponentials {
    A high, sum;
    template <int N> __device__ void take(const A (&x)[N]) {
        A largest = high;
#pragma unroll
        for (int k = 0; k < N; k++) largest = larger_number(largest, x[k]);
        const A base = largest == -infinity<A>() ? A(0) : largest;
        A added = 0;
#pragma unroll
        for (int k = 0; k < N; k++) added += exp(x[k] - base);
        sum = sum * exp(high - base) + added;
        high = largest;
    }
    __device__ Exponentials from_lane_xor(unsigned mask, int distance) const {
        return {__shfl_xor_sync(mask, high, distance), __shfl_xor_sync(mask, sum, distance)};
    }
};

template <class A> __device__ Exponentials<A> both(Exponentials<A> x, Exponentials<A> y) {
    const A high = larger_number(x.high, y.high), base = high == -infinity<A>() ? A(0) : high;
    return {high, x.sum * exp(x.high - base) + y.sum * exp(y.high - base)};
}

// The sum of x - high.
template <class A> struct Distances {
    A high, sum;
    template <int N> __device__ void take(const A (&x)[N]) {
#pragma unroll
        for (int k = 0; k < N; k++) sum += x[k] - high;
    }
};

// The loss of each row, its largest logit, and the logarithm of its sum of e^(logit - largest). A
// target that is no class sets *fault and gives a loss of NaN. L is the type of losses.
template <class T, class L>
__device__ void cross_entropy(const T* logits, const Int* target, L* loss, computed<T>* high,
                              computed<T>* log_sum, Int columns, Int ignore_index,
                              computed<T> smoothing, int* fault) {
    typedef computed<T> A;
    const Int row = blockIdx.x, label = target[row];
    logits += row * columns;
    Exponentials<A> all = {-infinity<A>(), 0};
    take_row(logits, columns, all);
    all = block_reduce(all, Exponentials<A>{-infinity<A>(), 0}, both<A>);
    const A largest = all.sum == all.sum || all.high == infinity<A>() ? all.high : all.sum;  // NaN
    const A logarithm = largest == -infinity<A>() ? largest - largest : log(all.sum);
    A uniform = 0;
    if (smoothing != 0) {
        Distances<A> distances = {largest, 0};
        take_row(logits, columns, distances);
        uniform = logarithm - block_sum(distances.sum) / A(columns);
    }
    if (threadIdx.x > 0) return;
    high[row] = largest, log_sum[row] = logarithm;
    if (label == ignore_index) {
        loss[row] = L(A(0));
    } else if (label < 0 || label >= columns) {
        *fault = 1;
        loss[row] = L(infinity<A>() - infinity<A>());
    } else {
        const A of_label = logarithm - (A(logits[label]) - largest);
        loss[row] = L(smoothing == 0 ? of_label : (1 - smoothing) * of_label + smoothing * uniform);
    }
}

// The 16 bytes that start at byte `at` (even, below 16) of the concatenation of `a` and `b`.
template <class P> __device__ inline P across(const P& a, const P& b, int at) {
    struct alignas(16) Words { unsigned of[4]; };
    const Words first = *reinterpret_cast<const Words*>(&a), second = *reinterpret_cast<const Words*>(&b);
    unsigned words[8];
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = first.of[i], words[i + 4] = second.of[i];
#pragma unroll
    for (int i = 0; i < 6; i++) words[i] = at & 8 ? words[i + 2] : words[i];
#pragma unroll
    for (int i = 0; i < 5; i++) words[i] = at & 4 ? words[i + 1] : words[i];
    Words found;
#pragma unroll
    for (int i = 0; i < 4; i++)
        found.of[i] = unsigned((((unsigned long long)words[i + 1] << 32) | words[i]) >> (at & 2) * 8);
    return *reinterpret_cast<const P*>(&found);
}

// The gradient for contiguous logits; rows of gx are `pitch` apart. Packs are aligned in gx: a pack
// of logits is combined from the two aligned packs that it overlaps, one of which the next thread
// reads too.
template <class T, class L>
__device__ void cross_entropy_grad(const L* g, const T* logits, const Int* target,
                                   const computed<T>* high, const computed<T>* log_sum, T* gx,
                                   Int columns, Int pitch, Int ignore_index, computed<T> smoothing) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T), MANY = sizeof(T) == 8 ? 1 : 2;
    const Int row = blockIdx.x, label = target[row];
    logits += row * columns, gx += row * pitch;
    const A scale = label == ignore_index ? A(0) : A(g[row]);
    const A largest = high[row], logarithm = log_sum[row], each = smoothing / A(columns);
    auto gradient = [&](A x) { return exp(x - largest - logarithm) - each; };
    // Packs are aligned in gx, from the first to the last whose two packs of logits are inside of
    // the row.
    Int before = min(before_load(gx), columns);
    const int off = int(reinterpret_cast<unsigned long long>(logits + before) % 16);
    if (off) before = min(before + N, columns);
    const Int packs = max((columns - before - (off ? N - off / Int(sizeof(T)) : 0)) / N, Int(0));
    const Int behind = before + packs * N;
    for (Int i = threadIdx.x; i < before + columns - behind; i += blockDim.x) {
        const Int column = i < before ? i : i - before + behind;
        const A p = gradient(A(logits[column]));
        gx[column] = T(scale * (column == label ? p - (1 - smoothing) : p));
    }
    const T* from = logits + before - off / int(sizeof(T));
    gx += before;
    for (Int first = threadIdx.x; first < packs; first += MANY * blockDim.x) {
        Pack<T, N> held[MANY], next[MANY];
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            const Int at = (first + i * blockDim.x) * N;
            if (first + i * blockDim.x >= packs) break;
            held[i] = load_pack<N>(from + at);
            if (off) next[i] = load_pack<N>(from + at + N);
        }
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            const Int at = (first + i * blockDim.x) * N;
            if (first + i * blockDim.x >= packs) break;
            const Pack<T, N> x = off ? across(held[i], next[i], off) : held[i];
            const Int of_label = label - before - at;
            Pack<T, N> made;
#pragma unroll
            for (int k = 0; k < N; k++) made.values[k] = T(scale * gradient(A(x.values[k])));
            if (of_label >= 0 && of_label < N) {
#pragma unroll
                for (int k = 0; k < N; k++)
                    if (of_label == k)
                        made.values[k] = T(scale * (gradient(A(x.values[k])) - (1 - smoothing)));
            }
            *reinterpret_cast<Pack<T, N>*>(gx + at) = made;
        }
    }
}

// The sum of losses, divided by the number of targets that are not ignored; and this number. Grid: one
// block.
template <class T>
__device__ void mean_of_counted(const T* losses, const Int* target, T* mean, computed<T>* count, Int rows,
                                Int ignore_index) {
    typedef computed<T> A;
    A sum = 0, counted = 0;
    for (Int i = threadIdx.x; i < rows; i += blockDim.x) {
        sum += A(losses[i]);
        counted += target[i] != ignore_index ? 1 : 0;
    }
    const Sums<A> all = block_sums(sum, counted);
    if (threadIdx.x == 0) *mean = T(all.a / all.b), *count = all.b;
}

// Losses in the logits' type, and in float32 for 16-bit logits.
#define EXPORT_CROSS_ENTROPY(SUFFIX, NAME, T, L)                                                     \
    CLASS_KERNEL cross_entropy##SUFFIX##_##NAME(                                                     \
        const T* logits, const Int* target, L* loss, computed<T>* high, computed<T>* log_sum,        \
        Int columns, Int ignore_index, computed<T> smoothing, int* fault) {                          \
        cross_entropy(logits, target, loss, high, log_sum, columns, ignore_index, smoothing, fault); \
    }                                                                                                \
    CLASS_KERNEL cross_entropy##SUFFIX##_grad_##NAME(                                                \
        const L* g, const T* logits, const Int* target, const computed<T>* high,                     \
        const computed<T>* log_sum, T* gx, Int columns, Int pitch, Int ignore_index,                 \
        computed<T> smoothing) {                                                                     \
        cross_entropy_grad(g, logits, target, high, log_sum, gx, columns, pitch, ignore_index,       \
                           smoothing);                                                               \
    }
#define EXPORT_OF_ONE_TYPE(NAME, T)                                                                  \
    EXPORT_CROSS_ENTROPY(, NAME, T, T)                                                               \
    CLASS_KERNEL mean_of_counted_##NAME(const T* losses, const Int* target, T* mean,                 \
                                        computed<T>* count, Int rows, Int ignore_index) {            \
        mean_of_counted(losses, target, mean, count, rows, ignore_index);                            \
    }
#define EXPORT_IN_FLOAT32(NAME, T) EXPORT_CROSS_ENTROPY(_in_float32, NAME, T, float)
FOR_EACH_FLOAT(EXPORT_OF_ONE_TYPE)
FOR_EACH_NARROW(EXPORT_IN_FLOAT32)
