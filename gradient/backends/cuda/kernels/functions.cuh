// Functions of one number, shared by elementwise kernels.
#pragma once
#include "numbers.cuh"

// A sum and a product that are never part of an FMA.
__device__ inline float rounded_sum(float a, float b) { return __fadd_rn(a, b); }
__device__ inline double rounded_sum(double a, double b) { return __dadd_rn(a, b); }
__device__ inline float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double rounded_product(double a, double b) { return __dmul_rn(a, b); }

template <class A> __device__ A sigmoid(A x) {
    A e = exp(-abs(x));  // cannot overflow
    return (x < 0 ? e : A(1)) / (1 + e);
}

// 1 / columns, and 1 / sqrt(mean + eps) of a sum by this. In float32 the root is off by up to 2
// units in the last place, and takes few instructions without a branch. All kernels give the same
// bits: no product or sum is part of an FMA.
template <class A> __device__ A reciprocal_of(Int columns) { return A(1) / A(columns); }
__device__ inline float one_over_root(float sum, float reciprocal, float eps) {
    return rsqrtf(__fadd_rn(__fmul_rn(sum, reciprocal), eps));
}
__device__ inline double one_over_root(double sum, double reciprocal, double eps) {
    return 1 / sqrt(sum * reciprocal + eps);
}

template <class A> __device__ A normal_cdf(A x) { return A(0.5) * (1 + erf(x * A(0.7071067811865476))); }

template <class A> __device__ A normal_density(A x) {
    return exp(A(-0.5) * x * x) * A(0.3989422804014327);
}

// The inner function of GELU's approximation (Hendrycks and Gimpel 2016, section 2).
template <class A> __device__ A gelu_angle(A x) {
    return A(0.7978845608028654) * (x + A(0.044715) * x * x * x);
}

template <class A> __device__ A gelu_angle_slope(A x) {
    return A(0.7978845608028654) * (1 + A(3 * 0.044715) * x * x);
}
