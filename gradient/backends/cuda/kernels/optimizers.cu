// Optimiser steps over many tensors in one launch, in place, and the norm and the scaling of their
// gradients.
//
// `addresses` has a row of n addresses for each list of tensors (parameters, gradients, states), and
// `starts` (n + 1) the number of the first block of each tensor, and of all; `sizes` (n) count their
// elements. A block works on CHUNK elements of one tensor. Bytes: each number is read once, and what
// changes is written once.
#include "rows.cuh"

constexpr Int CHUNK = 8192;

// Calls step(tensor, element) for this thread's elements.
template <class F>
__device__ void each_of_tensors(const Int* starts, const Int* sizes, Int n, F step) {
    Int low = 0, high = n;  // the last tensor that starts at or before this block
    while (high - low > 1) {
        Int middle = (low + high) / 2;
        if (starts[middle] <= blockIdx.x) low = middle;
        else high = middle;
    }
    Int first = (blockIdx.x - starts[low]) * CHUNK, last = min(first + CHUNK, sizes[low]);
    for (Int i = first + threadIdx.x; i < last; i += blockDim.x) step(low, i);
}

template <class T> __device__ T* at(const Int* addresses, Int list, Int n, Int tensor) {
    return reinterpret_cast<T*>(addresses[list * n + tensor]);
}

// AdamW (Loshchilov and Hutter 2019, algorithm 2), or Adam with an L2 term where it is not decoupled.
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

// Gradient descent with momentum (Sutskever et al. 2013, as PyTorch has it). The third list is of
// momentum buffers, or is not there.
template <class T>
__device__ void sgd(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                    computed<T> rate, computed<T> momentum, computed<T> rest, computed<T> l2,
                    computed<T> sign, Int nesterov, Int first_step) {
    typedef computed<T> A;
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

// Every element times a number; not_finite becomes 1 if one of them is infinite or NaN then.
template <class T>
__device__ void scale(const Int* addresses, const Int* starts, const Int* sizes, Int n,
                      computed<T> factor, int* not_finite) {
    each_of_tensors(starts, sizes, n, [&](Int tensor, Int i) {
        T* x = at<T>(addresses, 0, n, tensor) + i;
        *x = T(computed<T>(*x) * factor);
        if (not_finite && !(fabs(computed<T>(*x)) < infinity<computed<T>>())) *not_finite = 1;
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
    extern "C" __global__ void sgd_##NAME(const Int* addresses, const Int* starts,              \
                                          const Int* sizes, Int n, computed<T> rate,            \
                                          computed<T> momentum, computed<T> rest,               \
                                          computed<T> l2, computed<T> sign, Int nesterov,       \
                                          Int first_step) {                                     \
        sgd<T>(addresses, starts, sizes, n, rate, momentum, rest, l2, sign, nesterov,           \
               first_step);                                                                     \
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
                                              const Int* sizes, Int n, computed<T> factor,      \
                                              int* not_finite) {                                \
        scale<T>(addresses, starts, sizes, n, factor, not_finite);                              \
    }
FOR_EACH_FLOAT(EXPORT)
