// Pairs of a row's numbers, rotated (rope.cu has the formula).
#pragma once
#include "rows.cuh"

template <int N, class T> __device__ inline void store_pack(T* at, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(at) = pack;
}

// N pairs of a row from the i-th on; or, behind the `half` pairs, as many numbers, which are copied.
template <int N, class T> struct Pairs {
    int i, half;
    bool interleaved;

    __device__ bool is_copied() const { return i >= half; }
    // Where their N first and N second numbers begin.
    __device__ int first() const { return is_copied() ? i + half : interleaved ? 2 * i : i; }
    __device__ int second() const { return interleaved ? 2 * i + N : i + half; }

    // Writes them to the row `out`, rotated: the numbers at `x` and `y`, by the angles' `cos` and `sin`.
    __device__ void turn(const T* x, const T* y, const T* cos, const T* sin, T* out) const {
        typedef computed<T> A;
        const auto low = load_pack<N>(x);
        if (is_copied()) {
            store_pack(out + first(), low);
            return;
        }
        const auto high = load_pack<N>(y), cosines = load_pack<N>(cos), sines = load_pack<N>(sin);
        Pack<T, N> out_low, out_high;
#pragma unroll
        for (int k = 0; k < N; k++) {
            // If interleaved, pair k is at 2 k and 2 k + 1 of the 2 N numbers.
            const auto at = [&](int n) { return n < N ? low.values[n] : high.values[n - N]; };
            const A a = A(interleaved ? at(2 * k) : low.values[k]);
            const A c = A(interleaved ? at(2 * k + 1) : high.values[k]);
            const A cosine = A(cosines.values[k]), sine = A(sines.values[k]);
            // An explicit FMA, so that all kernels give the same bits.
            const T turned = T(fma(a, cosine, -(c * sine))), other = T(fma(c, cosine, a * sine));
            if (!interleaved) {
                out_low.values[k] = turned, out_high.values[k] = other;
            } else if (2 * k + 1 < N) {
                out_low.values[2 * k] = turned, out_low.values[2 * k + 1] = other;
            } else if (2 * k >= N) {
                out_high.values[2 * k - N] = turned, out_high.values[2 * k + 1 - N] = other;
            } else {  // single numbers
                out_low.values[0] = turned, out_high.values[0] = other;
            }
        }
        store_pack(out + first(), out_low), store_pack(out + second(), out_high);
    }
};

template <int N, class T>
__device__ inline void turn(const T* x, const T* cos, const T* sin, T* out, Int i, Int half, Int interleaved) {
    const Pairs<N, T> pairs{int(i), int(half), interleaved != 0};
    pairs.turn(x + pairs.first(), x + pairs.second(), cos + i, sin + i, out);
}
