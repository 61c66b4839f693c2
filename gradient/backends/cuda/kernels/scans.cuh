// Sums over all threads of a block up to each one.
#pragma once
#include "numbers.cuh"

template <class V> struct Scanned {
    V up_to;  // the sum of this thread's value and those of the threads before it
    V total;  // the sum of all threads' values
};

// The block has whole warps. Sums are taken in an order that does not change.
template <class V> __device__ Scanned<V> block_scan(V value) {
    __shared__ V of_warp[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int distance = 1; distance < 32; distance *= 2) {
        const V before = __shfl_up_sync(0xffffffffu, value, distance);
        if (lane >= distance) value += before;
    }
    if (lane == 31) of_warp[warp] = value;
    __syncthreads();
    V before = 0, total = 0;
    for (int w = 0; w < warps; w++) {
        if (w == warp) before = total;
        total += of_warp[w];
    }
    __syncthreads();  // of_warp may be written again
    return {value + before, total};
}
