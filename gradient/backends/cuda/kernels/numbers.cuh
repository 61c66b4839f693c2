// The number types of the kernels, their compute types, and their names in exported functions.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef long long Int;  // counts and indices: 64 bits, as NumPy's

// 16-bit floats are only for storage: kernels compute in float32.
template <class T> struct Computed { typedef float type; };
template <> struct Computed<double> { typedef double type; };
template <class T> using computed = typename Computed<T>::type;

template <class A> __device__ A infinity();
template <> __device__ inline float infinity<float>() { return __int_as_float(0x7f800000); }
template <> __device__ inline double infinity<double>() { return __longlong_as_double(0x7ff0000000000000ll); }

// Whether this is compiled for GPUs after the H100, where the same code takes a few more registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr bool AFTER_HOPPER = true;
#else
constexpr bool AFTER_HOPPER = false;
#endif

// A number from the host, or in device memory if it changes between launches of a graph.
template <class V> struct Given {
    V value;
    const V* at;
    __device__ operator V() const { return at ? *at : value; }
};
typedef Given<double> Number;
typedef Given<Int> Count;

// Division of n < 2^31 by a number from the host (`divisor`; Granlund and Montgomery 1994).
struct Divisor {
    unsigned by, factor, shift;
    __device__ unsigned divide(unsigned n) const { return (__umulhi(n, factor) + n) >> shift; }
};

// N numbers that are loaded and stored together, by one instruction if they have 16 bytes.
template <class T, int N> struct alignas(N * sizeof(T) > 16 ? 16 : N * sizeof(T)) Pack { T values[N]; };

// EXPORT(float32, float) ...: one kernel per number type, named after NumPy's dtype; or only for
// the type that the compiler was given (DTYPE and its C type, NUMBER). FOR_EACH_HALF: 16-bit
// floats, from sm_80 on (for tensor cores). FOR_EACH_NARROW: these on any GPU. FOR_EACH_WIDE:
// float32 and float64. FOR_FLOAT32: float32 alone, from sm_80 on (for asynchronous copies).
// FOR_EACH_SINGLE: all whose compute type is float32.
#ifdef DTYPE
#define EXPORT_WITH(EXPORT, NAME, T) EXPORT(NAME, T)
#define FOR_EACH_FLOAT(EXPORT) EXPORT_WITH(EXPORT, DTYPE, NUMBER)
#define HALF_float32(EXPORT)
#define HALF_float64(EXPORT)
#if __CUDA_ARCH__ >= 800
#define HALF_float16(EXPORT) EXPORT(float16, __half)
#define HALF_bfloat16(EXPORT) EXPORT(bfloat16, __nv_bfloat16)
#else
#define HALF_float16(EXPORT)
#define HALF_bfloat16(EXPORT)
#endif
#define HALF_OF(NAME) HALF_##NAME
#define HALF_WITH(NAME, EXPORT) HALF_OF(NAME)(EXPORT)
#define FOR_EACH_HALF(EXPORT) HALF_WITH(DTYPE, EXPORT)
#define WIDE_float32(EXPORT) EXPORT(float32, float)
#define WIDE_float64(EXPORT) EXPORT(float64, double)
#define WIDE_float16(EXPORT)
#define WIDE_bfloat16(EXPORT)
#define NARROW_float32(EXPORT)
#define NARROW_float64(EXPORT)
#define NARROW_float16(EXPORT) EXPORT(float16, __half)
#define NARROW_bfloat16(EXPORT) EXPORT(bfloat16, __nv_bfloat16)
#define NARROW_OF(NAME) NARROW_##NAME
#define NARROW_WITH(NAME, EXPORT) NARROW_OF(NAME)(EXPORT)
#define FOR_EACH_NARROW(EXPORT) NARROW_WITH(DTYPE, EXPORT)
#define WIDE_OF(NAME) WIDE_##NAME
#define WIDE_WITH(NAME, EXPORT) WIDE_OF(NAME)(EXPORT)
#define FOR_EACH_WIDE(EXPORT) WIDE_WITH(DTYPE, EXPORT)
#if __CUDA_ARCH__ >= 800
#define FLOAT32_float32(EXPORT) EXPORT(float32, float)
#else
#define FLOAT32_float32(EXPORT)
#endif
#define FLOAT32_float64(EXPORT)
#define FLOAT32_float16(EXPORT)
#define FLOAT32_bfloat16(EXPORT)
#define FLOAT32_OF(NAME) FLOAT32_##NAME
#define FLOAT32_WITH(NAME, EXPORT) FLOAT32_OF(NAME)(EXPORT)
#define FOR_FLOAT32(EXPORT) FLOAT32_WITH(DTYPE, EXPORT)
#define SINGLE_float32(EXPORT) EXPORT(float32, float)
#define SINGLE_float64(EXPORT)
#define SINGLE_float16(EXPORT) EXPORT(float16, __half)
#define SINGLE_bfloat16(EXPORT) EXPORT(bfloat16, __nv_bfloat16)
#define SINGLE_OF(NAME) SINGLE_##NAME
#define SINGLE_WITH(NAME, EXPORT) SINGLE_OF(NAME)(EXPORT)
#define FOR_EACH_SINGLE(EXPORT) SINGLE_WITH(DTYPE, EXPORT)
#else
#define FOR_EACH_HALF(EXPORT)  \
    EXPORT(float16, __half)    \
    EXPORT(bfloat16, __nv_bfloat16)
#define FOR_EACH_NARROW(EXPORT) FOR_EACH_HALF(EXPORT)
#define FOR_EACH_WIDE(EXPORT)  \
    EXPORT(float32, float)     \
    EXPORT(float64, double)
#define FOR_FLOAT32(EXPORT) EXPORT(float32, float)
#define FOR_EACH_SINGLE(EXPORT) \
    EXPORT(float32, float)      \
    FOR_EACH_HALF(EXPORT)
#define FOR_EACH_FLOAT(EXPORT) \
    FOR_EACH_WIDE(EXPORT)      \
    EXPORT(float16, __half)    \
    EXPORT(bfloat16, __nv_bfloat16)
#endif
