// Optimiser steps over many tensors in one launch, in place, and the norm and the scaling of their
// gradients.
//
// `addresses` has a row of n addresses for each list of tensors (parameters, gradients, states), and
// `starts` (n + 1) the number of the first block of each tensor, and of all; `sizes` (n) count their
// elements. A block works on CHUNK elements of one tensor. Bytes: each number is read once, and what
// changes is written once.
#include "rows.cuh"

constexpr Int CHUNK = 8192;

// The last tensor that starts at or before this block.
__device__ inline Int tensor_of_block(const Int* starts, Int n) {
    Int low = 0, high = n;
    while (high - low > 1) {
        Int middle = (low + high) / 2;
        if (starts[middle] <= blockIdx.x) low = middle;
        else high = middle;
    }
    return low;
}

// Calls step(tensor, element) for this thread's elements.
template <class F>
__device__ void each_of_tensors(const Int* starts, const Int* sizes, Int n, F step) {
    const Int tensor = tensor_of_block(starts, n), first = (blockIdx.x - starts[tensor]) * CHUNK;
    const Int last = min(first + CHUNK, sizes[tensor]);
    for (Int i = first + threadIdx.x; i < last; i += blockDim.x) step(tensor, i);
}

template <class T> __device__ T* at(const Int* addresses, Int list, Int n, Int tensor) {
    return reinterpret_cast<T*>(addresses[list * n + tensor]);
}

// AdamW (Loshchilov and Hutter 2019, algorithm 2), or Adam with an L2 term where it is not decoupled.
// `rate` is lr / (1 - beta1^t), and `root2` the root of 1 - beta2^t.
template <class T>
__device__ void adamw(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                      computed<T> rate, computed<T> beta1, computed<T> rest1, computed<T> beta2,
                      computed<T> rest2, computed<T> root2, computed<T> eps, computed<T> kept,
                      computed<T> l2, computed<T> sign) {
    typedef computed<T> A;
    each_of_tensors(starts, sizes, n, [&](Int tensor, Int i) {
        T *param = at<T>(addresses, 0, n, tensor) + i, *first = at<T>(addresses, 2, n, tensor) + i;
        T* second = at<T>(addresses, 3, n, tensor) + i;
        A p = A(*param), g = sign * A(at<const T>(addresses, 1, n, tensor)[i]);
        if (l2 != 0) g += l2 * p;  // 0 times infinity would be NaN
        A m = beta1 * A(*first) + rest1 * g;
        A v = beta2 * A(*second) + rest2 * (g * g);
        *first = T(m), *second = T(v);
        *param = T(p * kept - rate * m / (sqrt(v) / root2 + eps));
    });
}

// The same, unless found_inf is not 0, and with the count of steps on the device: the fifth list is of
// counts, t - 1 each. So a loss scale's step (Micikevicius et al. 2018, section 3.2) is left out
// without the host's knowing.
template <class T>
__device__ void adamw_unless(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                             computed<T> beta1, computed<T> rest1, computed<T> beta2,
                             computed<T> rest2, computed<T> eps, computed<T> kept, computed<T> l2,
                             computed<T> sign, const float* found_inf, double lr, double decay1,
                             double decay2) {
    if (*found_inf != 0) return;
    __shared__ computed<T> rate, root2;
    if (threadIdx.x == 0) {
        const double t = double(*at<const float>(addresses, 4, n, tensor_of_block(starts, n))) + 1;
        rate = computed<T>(lr / (1 - pow(decay1, t)));
        root2 = computed<T>(sqrt(1 - pow(decay2, t)));
    }
    __syncthreads();
    adamw<T>(addresses, starts, sizes, n, rate, beta1, rest1, beta2, rest2, root2, eps, kept, l2, sign);
}

// Gradient descent with momentum (Sutskever et al. 2013, as PyTorch has it). The third list is of
// momentum buffers, or is not there. Where there is a found_inf that is not 0, nothing changes.
template <class T>
__device__ void sgd(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                    computed<T> rate, computed<T> momentum, computed<T> rest, computed<T> l2,
                    computed<T> sign, Int nesterov, Int first_step, const float* found_inf) {
    typedef computed<T> A;
    if (found_inf && *found_inf != 0) return;
    each_of_tensors(starts, sizes, n, [&](Int tensor, Int i) {
        T* param = at<T>(addresses, 0, n, tensor) + i;
        A p = A(*param), g = sign * A(at<const T>(addresses, 1, n, tensor)[i]);
        if (l2 != 0) g += l2 * p;  // 0 times infinity would be NaN
        if (momentum != 0) {
            T* buffer = at<T>(addresses, 2, n, tensor) + i;
            A b = first_step ? g : momentum * A(*buffer) + rest * g;
            *buffer = T(b);
            g = nesterov ? g + momentum * b : b;
        }
        *param = T(p - rate * g);
    });
}

// out[block] = the sum of the squares of a block's elements.
template <class T>
__device__ void squares(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                        computed<T>* out) {
    computed<T> sum = 0;
    each_of_tensors(starts, sizes, n, [&](Int tensor, Int i) {
        computed<T> x = at<const T>(addresses, 0, n, tensor)[i];
        sum += x * x;
    });
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Every element times a number; found_inf becomes 1 if one of them is infinite or NaN then.
template <class T>
__device__ void scale(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                      computed<T> factor, float* found_inf) {
    each_of_tensors(starts, sizes, n, [&](Int tensor, Int i) {
        T* x = at<T>(addresses, 0, n, tensor) + i;
        *x = T(computed<T>(*x) * factor);
        if (found_inf && !(fabs(computed<T>(*x)) < infinity<computed<T>>())) *found_inf = 1;
    });
}

#define EXPORT(NAME, T)                                                                         \
    extern "C" __global__ void adamw_##NAME(                                                    \
        const Int* addresses, const Int* starts, const Int* sizes, Int n, computed<T> rate,     \
        computed<T> beta1, computed<T> rest1, computed<T> beta2, computed<T> rest2,             \
        computed<T> root2, computed<T> eps, computed<T> kept, computed<T> l2, computed<T> sign) { \
        adamw<T>(addresses, starts, sizes, n, rate, beta1, rest1, beta2, rest2, root2, eps,     \
                 kept, l2, sign);                                                               \
    }                                                                                           \
    extern "C" __global__ void adamw_unless_##NAME(                                             \
        const Int* addresses, const Int* starts, const Int* sizes, Int n, computed<T> beta1,    \
        computed<T> rest1, computed<T> beta2, computed<T> rest2, computed<T> eps,               \
        computed<T> kept, computed<T> l2, computed<T> sign, const float* found_inf, double lr,  \
        double decay1, double decay2) {                                                         \
        adamw_unless<T>(addresses, starts, sizes, n, beta1, rest1, beta2, rest2, eps, kept, l2, \
                        sign, found_inf, lr, decay1, decay2);                                   \
    }                                                                                           \
    extern "C" __global__ void sgd_##NAME(const Int* addresses, const Int* starts,              \
                                          const Int* sizes, Int n, computed<T> rate,            \
                                          computed<T> momentum, computed<T> rest,               \
                                          computed<T> l2, computed<T> sign, Int nesterov,       \
                                          Int first_step, const float* found_inf) {             \
        sgd<T>(addresses, starts, sizes, n, rate, momentum, rest, l2, sign, nesterov,           \
               first_step, found_inf);                                                          \
    }                                                                                           \
    extern "C" __global__ void squares_##NAME(const Int* addresses, const Int* starts,          \
                                              const Int* sizes, Int n, computed<T>* out) {      \
        squares<T>(addresses, starts, sizes, n, out);                                           \
    }                                                                                           \
    extern "C" __global__ void scale_##NAME(const Int* addresses, const Int* starts,            \
                                            const Int* sizes, Int n, const computed<T>* factor) { \
        scale<T>(addresses, starts, sizes, n, *factor, nullptr);                                \
    }                                                                                           \
    extern "C" __global__ void unscale_##NAME(const Int* addresses, const Int* starts,          \
                                              const Int* sizes, Int n, const float* factor,     \
                                              float* found_inf) {                               \
        scale<T>(addresses, starts, sizes, n, computed<T>(*factor), found_inf);                 \
    }
FOR_EACH_FLOAT(EXPORT)
