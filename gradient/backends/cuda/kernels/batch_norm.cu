// Batch norm (Ioffe and Szegedy 2015) of x (N, C, size): each channel by its own mean and variance.
//
//     y = (x - mean) * rstd * weight + bias
//     gx = rstd * weight * (g - mean(g) - n * mean(g * n)),  n = (x - mean) * rstd
//
// A block computes a channel, whose numbers are N runs of `size`. It reads them three times (the
// gradient: g and x twice), mostly from the cache if a channel fits in it, and writes them once.
// With few channels most of a GPU is idle: 64 blocks of up to 1,024 threads use half of the
// multiprocessors of an H100. `weight` and `bias` may be null. Grid: one block per channel.
#include "rows.cuh"

// How a channel's elements are stored. Indices have 32 bits, because 64-bit division is slow.
struct Channel {
    unsigned count, size;
    Int start, step;

    __device__ Channel(Int samples, Int channels, Int size)
        : count(unsigned(samples * size)), size(unsigned(size)), start(blockIdx.x * size),
          step(channels * size) {}
    template <class F> __device__ void each(F f) const {
        for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
            f(start + i / size * step + i % size);
    }
};

template <class T>
__device__ void batch_norm(const T* x, const T* weight, const T* bias, T* y, computed<T>* mean,
                           computed<T>* rstd, Int samples, Int channels, Int size,
                           computed<T> eps) {
    typedef computed<T> A;
    const Channel channel(samples, channels, size);
    A sum = 0;
    channel.each([&](Int i) { sum += A(x[i]); });
    const A centre = block_sum(sum) / A(channel.count);
    Sums<A> mine = {0, 0};
    channel.each([&](Int i) {
        const A apart = A(x[i]) - centre;
        mine.a += apart, mine.b += apart * apart;
    });
    const auto whole = block_sums(mine.a, mine.b);
    const A rest = whole.a / A(channel.count);  // correction for the rounding of the mean
    const A scale = 1 / sqrt(whole.b / A(channel.count) - rest * rest + eps);
    if (threadIdx.x == 0) mean[blockIdx.x] = centre + rest, rstd[blockIdx.x] = scale;
    const A times = weight ? A(weight[blockIdx.x]) : A(1), plus = bias ? A(bias[blockIdx.x]) : A(0);
    channel.each([&](Int i) {
        const A normed = (A(x[i]) - centre - rest) * scale * times;
        y[i] = T(bias ? normed + plus : normed);
    });
}

template <class T>
__device__ void batch_norm_grad(const T* g, const T* x, const T* weight, const computed<T>* mean,
                                const computed<T>* rstd, T* gx, computed<T>* gw, computed<T>* gb,
                                Int samples, Int channels, Int size) {
    typedef computed<T> A;
    const Channel channel(samples, channels, size);
    const A centre = mean[blockIdx.x], scale = rstd[blockIdx.x];
    Sums<A> mine = {0, 0};
    channel.each([&](Int i) {
        mine.a += A(g[i]), mine.b += A(g[i]) * ((A(x[i]) - centre) * scale);
    });
    const auto whole = block_sums(mine.a, mine.b);
    if (threadIdx.x == 0) gb[blockIdx.x] = whole.a, gw[blockIdx.x] = whole.b;
    const A of_g = whole.a / A(channel.count), of_product = whole.b / A(channel.count);
    const A times = weight ? scale * A(weight[blockIdx.x]) : scale;
    channel.each([&](Int i) {
        gx[i] = T(times * (A(g[i]) - of_g - (A(x[i]) - centre) * scale * of_product));
    });
}

#define EXPORT(NAME, T)                                                                             \
    ROW_KERNEL batch_norm_##NAME(                                                                   \
        const T* x, const T* weight, const T* bias, T* y, computed<T>* mean, computed<T>* rstd,     \
        Int samples, Int channels, Int size, computed<T> eps) {                                     \
        batch_norm(x, weight, bias, y, mean, rstd, samples, channels, size, eps);                   \
    }                                                                                               \
    ROW_KERNEL batch_norm_grad_##NAME(                                                              \
        const T* g, const T* x, const T* weight, const computed<T>* mean, const computed<T>* rstd,  \
        T* gx, computed<T>* gw, computed<T>* gb, Int samples, Int channels, Int size) {             \
        batch_norm_grad(g, x, weight, mean, rstd, gx, gw, gb, samples, channels, size);             \
    }
FOR_EACH_FLOAT(EXPORT)
