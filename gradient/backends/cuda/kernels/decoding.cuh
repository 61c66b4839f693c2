// Shared by the kernels of a decoder's matrix products: matrices, and the RMS norm of the row x.
#pragma once
#include <tensor_cores.cuh>

#include "functions.cuh"
#include "rows.cuh"

// Loads 16 bytes that are used once: the caches evict them first. The result stays in words until
// it is used, because unpacking 16-bit numbers would wait for the load.
__device__ inline uint4 load_once(const void* at) { return __ldcs(static_cast<const uint4*>(at)); }

// A matrix (packed weights: its parts, see `Packed` of packed.cuh), and the output of its product.
template <class T> struct Matrix {
    const void *codes, *scales;
    T* out;
    int outputs;
    const void* zeros = nullptr;
};

// 1 / sqrt(mean(x^2) + eps) of a row, summed in the same order as `rms_norm` of norms.cu with a
// block of `threads`. `first` are the numbers from threadIdx.x * N on, if the row has them;
// `reciprocal` is that of columns.
template <bool AGAIN, class T, int N>
__device__ computed<T> norm_of(const T* x, const Pack<T, N>& first, int columns, computed<T> reciprocal,
                               computed<T> eps, int threads) {
    typedef computed<T> A;
    __shared__ Pack<A, 32> of_warps;  // aligned for loads of 16 bytes
    A* const of_warp = in_register(of_warps.values);
    const int warps = unsigned(threads) / 32;
    const int lane = threadIdx.x % 32;
    const auto put_sum = [&](int warp, A sum) {
        for (int distance = 16; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (lane == 0) of_warp[warp] = sum;
    };
    A of_first = 0;  // before the branch: a use behind it would also wait for the loads of weights
#pragma unroll
    for (int k = 0; k < N; k++) of_first += A(first.values[k]) * A(first.values[k]);
    if (threads == blockDim.x && columns == threads * N) {  // without loops: each instruction counts here
        put_sum(threadIdx.x / 32, of_first);
    } else {
        for (int thread = threadIdx.x; thread < threads; thread += int(blockDim.x)) {
            A sum = 0;
            for (int i = thread * N; i < columns; i += threads * N) {
                if (i == threadIdx.x * N) {
                    sum = of_first;
                    continue;
                }
                const auto pack = load_pack<N>(x + i);
#pragma unroll
                for (int k = 0; k < N; k++) sum += A(pack.values[k]) * A(pack.values[k]);
            }
            put_sum(thread / 32, sum);
        }
    }
    constexpr int WARPS = 8;
    if (threadIdx.x < WARPS && threadIdx.x >= warps) of_warp[threadIdx.x] = 0;
    __syncthreads();
    A sum;
    if (warps <= WARPS) {  // all lanes read the sums at once, and add them in the order of the shuffles below
        A s[WARPS];
#pragma unroll
        for (int w = 0; w < WARPS; w++) s[w] = of_warp[w];
        sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    } else {
        sum = lane < warps ? of_warp[lane] : A(0);
        for (int distance = 16; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    }
    if (AGAIN) __syncthreads();  // of_warp is written again
    return one_over_root(sum, reciprocal, eps);
}

// x scale weight, rounded; with `round_first`, x scale is rounded too. 16-bit numbers are rounded
// in pairs, by one fast instruction (F2FP); single ones may each take a slow one (F2F).
template <class T, int N>
__device__ Pack<T, N> normed(Pack<T, N> x, const Pack<T, N>& weight, computed<T> scale, bool round_first) {
    typedef computed<T> A;
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int k = 0; k < N; k += 2) {
            float numbers[2];
            unsigned both;
            T* const of_both = reinterpret_cast<T*>(&both);
#pragma unroll
            for (int i = 0; i < 2; i++) numbers[i] = float(x.values[k + i]) * scale;
            if (round_first) {
                both = two<T>(numbers[0], numbers[1]);
                numbers[0] = float(of_both[0]), numbers[1] = float(of_both[1]);
            }
            both = two<T>(numbers[0] * float(weight.values[k]), numbers[1] * float(weight.values[k + 1]));
            x.values[k] = of_both[0], x.values[k + 1] = of_both[1];
        }
    } else {
#pragma unroll
        for (int k = 0; k < N; k++) {
            A number = A(x.values[k]) * scale;
            if (round_first) number = A(T(number));
            x.values[k] = T(number * A(weight.values[k]));
        }
    }
    return x;
}
