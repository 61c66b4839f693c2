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

// 1 / sqrt(mean + eps) for the sum of `columns` numbers. In float32 by few instructions, without a
// branch: the quotient and the root are off by up to 2 units in the last place each. All kernels
// give the same bits: the sum with eps is never part of an FMA.
__device__ inline float one_over_root(float sum, Int columns, float eps) {
    return rsqrtf(__fadd_rn(__fdividef(sum, float(columns)), eps));
}
__device__ inline double one_over_root(double sum, Int columns, double eps) {
    return 1 / sqrt(sum / double(columns) + eps);
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
