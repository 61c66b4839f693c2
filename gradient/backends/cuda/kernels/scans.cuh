// Prefix sums over the threads of a block.
#pragma once
#include "numbers.cuh"

template <class V> struct Scanned {
    V before;  // the sum of the values of the threads before this one
    V total;   // the sum of all threads' values
};

// The block has whole warps. The order of sums is fixed.
template <class V> __device__ Scanned<V> block_scan(V value) {
    __shared__ V of_warp[32];
    const unsigned all = 0xffffffffu;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int distance = 1; distance < 32; distance *= 2) {
        const V below = __shfl_up_sync(all, value, distance);
        if (lane >= distance) value += below;
    }
    if (lane == 31) of_warp[warp] = value;
    V before = __shfl_up_sync(all, value, 1);  // not inclusive - value: infinity - infinity is NaN
    if (lane == 0) before = 0;
    __syncthreads();
    V total = 0;
    for (int w = 0; w < warps; w++) {
        if (w == warp) before = total + before;
        total += of_warp[w];
    }
    __syncthreads();  // of_warp may be overwritten
    return {before, total};
}
