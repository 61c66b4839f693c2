// Optimiser steps over many tensors in one launch, in place.
//
// `addresses` has a row of n addresses for each list of tensors (parameters, gradients, states), and
// `starts` (n + 1) the number of the first block of each tensor, and of all; `sizes` (n) count their
// elements. A block works on CHUNK elements of one tensor. Bytes: each number is read once, and what
// changes is written once.
#include "numbers.cuh"

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
    }
FOR_EACH_FLOAT(EXPORT)
