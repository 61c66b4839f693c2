// Uniform and normal random numbers by Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, section 3.3 and
// table 2): block i of a stream depends only on (key, i), so a GPU draws the same numbers as a CPU.
//
//     float32: 24 bits of each of a block's four words; float64: 27 and 26 bits of each two
//
// Uniform: a thread computes one block of the stream, and writes its numbers once. Grid: one thread
// per block of the stream. Normal: numbers i and h + i of n = 2 h come from the uniform numbers u =
// i and v = h + i (Box and Muller 1958),
//
//     sqrt(-2 log(1 - u)) cos(2 pi v)   and   sqrt(-2 log(1 - u)) sin(2 pi v),
//
// so a thread computes two blocks of the stream and uses numbers of both; uniform numbers are not
// written to memory. Grid: one thread per such pair.
//
// Dropout (Srivastava et al. 2014): out[i] = x[i] / (1 - p) where the float32 uniform number i is at
// least p, else x[i] * 0. Its gradient is the same for g, with the numbers drawn again instead of stored.
// Each number is read and written once. Grid: one thread per block of the stream, that is, per four
// elements.
#include "rows.cuh"

struct Words { unsigned of[4]; };

__device__ inline Words philox(unsigned long long key, unsigned long long counter) {
    unsigned k0 = unsigned(key), k1 = unsigned(key >> 32);
    unsigned c0 = unsigned(counter), c1 = unsigned(counter >> 32), c2 = 0, c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned long long p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        c0 = unsigned(p1 >> 32) ^ c1 ^ k0, c1 = unsigned(p1);
        c2 = unsigned(p0 >> 32) ^ c3 ^ k1, c3 = unsigned(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Number i of a block's two or four, in [0, 1).
__device__ inline void take(const Words& words, int i, float& x) {
    x = float(words.of[i] >> 8) * 5.9604644775390625e-8f;  // 2^-24
}
__device__ inline void take(const Words& words, int i, double& x) {
    const double high = words.of[2 * i] >> 5, low = words.of[2 * i + 1] >> 6;
    x = (high * 67108864.0 + low) * 1.1102230246251565e-16;  // 2^26 and 2^-53
}

template <class T> __device__ void uniform(T* out, Int key, Int offset, Int count) {
    constexpr int OF_BLOCK = sizeof(T) == 8 ? 2 : 4;
    const Int block = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (block * OF_BLOCK >= count) return;
    const Words words = philox(key, (unsigned long long)offset + block);
#pragma unroll
    for (int i = 0; i < OF_BLOCK; i++) {
        computed<T> x;
        take(words, i, x);
        if (block * OF_BLOCK + i < count) out[block * OF_BLOCK + i] = T(x);
    }
}

// Number i of the stream.
template <class A> __device__ A number(Int key, Int offset, Int i) {
    constexpr int OF_BLOCK = sizeof(A) == 8 ? 2 : 4;
    A x;
    take(philox(key, (unsigned long long)offset + i / OF_BLOCK), int(i % OF_BLOCK), x);
    return x;
}

template <class T> __device__ void normal(T* out, Int key, Int offset, Int count) {
    typedef computed<T> A;
    const Int half = (count + 1) / 2, i = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= half) return;
    const A radius = sqrt(A(-2) * log(1 - number<A>(key, offset, i)));
    const A angle = A(6.283185307179586) * number<A>(key, offset, half + i);
    out[i] = T(radius * cos(angle));
    if (half + i < count) out[half + i] = T(radius * sin(angle));
}

template <class T>
__device__ void dropout(const T* x, T* out, Int key, Int offset, Int count, float p, computed<T> scale) {
    typedef computed<T> A;
    const Int block = Int(blockIdx.x) * blockDim.x + threadIdx.x, first = 4 * block;
    if (first >= count) return;
    const Words words = philox(key, (unsigned long long)offset + block);
    auto dropped = [&](int i, T number) {
        float u;
        take(words, i, u);
        return T(A(number) * (u >= p ? scale : A(0)));
    };
    if (first + 4 <= count && is_aligned<4>(x) && is_aligned<4>(out)) {
        Pack<T, 4> pack = load_pack<4>(x + first);
#pragma unroll
        for (int i = 0; i < 4; i++) pack.values[i] = dropped(i, pack.values[i]);
        *reinterpret_cast<Pack<T, 4>*>(out + first) = pack;
    } else {
        for (int i = 0; i < 4 && first + i < count; i++) out[first + i] = dropped(i, x[first + i]);
    }
}

#define EXPORT_DROPOUT(NAME, T)                                                                      \
    extern "C" __global__ void dropout_##NAME(                                                       \
        const T* x, T* out, const __grid_constant__ Count key, const __grid_constant__ Count offset, \
        Int count, float p, computed<T> scale) {                                                     \
        dropout(x, out, key, offset, count, p, scale);                                               \
    }
FOR_EACH_FLOAT(EXPORT_DROPOUT)

#define EXPORT(NAME, T)                                                                             \
    extern "C" __global__ void uniform_##NAME(T* out, const __grid_constant__ Count key,            \
                                              const __grid_constant__ Count offset, Int count) {    \
        uniform(out, key, offset, count);                                                           \
    }                                                                                               \
    extern "C" __global__ void normal_##NAME(T* out, const __grid_constant__ Count key,             \
                                             const __grid_constant__ Count offset, Int count) {     \
        normal(out, key, offset, count);                                                            \
    }
#ifdef DTYPE
FOR_EACH_FLOAT(EXPORT)
#else  // 16-bit floats: drawn in float32
EXPORT(float32, float)
EXPORT(float64, double)
#endif
