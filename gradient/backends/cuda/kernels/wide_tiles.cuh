// A tile of 128 x 128 numbers of a product of 16-bit floats, by one block of 128 threads:
//
//     out[i, j] = sum of left[i, k] * right[j, k] over 0 <= k < depth         i, j = 0 .. 127
//
// Either factor lies along depth (its rows' numbers side by side) or across it, as a matrix or as windows of
// images. A factor copies its part of a step; steps are asked for in their order. The block copies steps of
// 32 along depth into shared memory in the background, STAGES - 1 of them ahead, so that a multiplication
// waits for none; a barrier a step. A warp has 64 x 64 numbers: for each 16 along depth it reads 8 times
// four matrices of 8 x 8 from shared memory, for 32 products by tensor cores, which take 26 cycles of an
// H100's multiprocessor (by mma.sync), and the reading 32. A step reads 16 KiB for 2^20 operations: 64 a
// byte, which the L2 cache has to give (an H100's gives some 5.5 TB/s).
//
// Packs of 16 bytes are permuted within rows, so that the 8 rows of a matrix begin in 8 groups of banks.
// Numbers of a row come by packs: rows begin at 16 bytes, and have a multiple of 8 numbers.
#pragma once
#include "numbers.cuh"
#include <tensor_cores.cuh>

constexpr int WIDE = 128, WIDE_THREADS = 128, WIDE_STEP = 32, STAGES = 4;
constexpr int COPIES = WIDE * WIDE_STEP / 8 / WIDE_THREADS;  // packs of a factor that a thread copies in a step

// How a step lies in shared memory: of factors along depth, a thread copies pack `pack()` of four of
// COPIES rows. `prepare` is called by all, with a barrier between it and the copy of its step.
template <class T> struct LaidAlong {
    static __device__ int row(int i) { return threadIdx.x / 4 + WIDE_THREADS / 4 * i; }
    static __device__ int pack() { return threadIdx.x % 4; }
    __device__ void prepare(Int) {}
    static __device__ int place(int row, int pack) { return row * WIDE_STEP + (pack ^ row / 2 % 4) * 8; }
    // Rows `row` to `row` + 15, depth k to k + 15, as the left operand; and 16 rows as two right ones.
    static __device__ void left(unsigned (&a)[4], const T* tile, int row, int k) {
        const int lane = threadIdx.x % 32;
        ldmatrix(a, tile + place(row + lane % 16, k / 8 + lane / 16));
    }
    static __device__ void right(unsigned (&b)[4], const T* tile, int row, int k) {
        const int lane = threadIdx.x % 32;
        ldmatrix(b, tile + place(row + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
    }
};

// Of factors across it: pack `pack()` of 16, at COPIES numbers along depth.
template <class T> struct LaidAcross {
    static __device__ int at(int i) { return threadIdx.x / 16 + WIDE_THREADS / 16 * i; }
    static __device__ int pack() { return threadIdx.x % 16; }
    __device__ void prepare(Int) {}
    static __device__ int place(int k, int pack) { return k * WIDE + (pack ^ k % 8) * 8; }
    static __device__ void left(unsigned (&a)[4], const T* tile, int row, int k) {
        const int lane = threadIdx.x % 32;
        ldmatrix_trans(a, tile + place(k + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
    }
    static __device__ void right(unsigned (&b)[4], const T* tile, int row, int k) {
        const int lane = threadIdx.x % 32;
        ldmatrix_trans(b, tile + place(k + lane % 16, row / 8 + lane / 16));
    }
};

// Number (i, k) at matrix[i * stride + k].
template <class T> struct WideAlong : LaidAlong<T> {
    const T* matrix;
    Int rows, stride, depth;
    __device__ WideAlong(const T* matrix, Int rows, Int stride, Int depth)
        : matrix(matrix), rows(rows), stride(stride), depth(depth) {}
    __device__ void copy(T* to, Int k) const {
        const int pack = this->pack();
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int row = this->row(i);
            const bool there = row < rows && k + pack * 8 < depth;
            const T* from = there ? matrix + row * stride + k + pack * 8 : matrix;
            cp_async(to + this->place(row, pack), from, there ? 16 : 0);
        }
    }
};

// Number (i, k) at matrix[k * stride + i].
template <class T> struct WideAcross : LaidAcross<T> {
    const T* matrix;
    Int rows, stride, depth;
    __device__ WideAcross(const T* matrix, Int rows, Int stride, Int depth)
        : matrix(matrix), rows(rows), stride(stride), depth(depth) {}
    __device__ void copy(T* to, Int k) const {
        const int pack = this->pack();
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int at = this->at(i);
            const bool there = k + at < depth && pack * 8 < rows;
            const T* from = there ? matrix + (k + at) * stride + pack * 8 : matrix;
            cp_async(to + this->place(at, pack), from, there ? 16 : 0);
        }
    }
};

template <class T> __device__ inline void store_two(T* at, float first, float second) {
    *reinterpret_cast<unsigned*>(at) = two<T>(first, second);
}

// Calls write(i, j, sum, next) for the numbers (i, j) and (i, j + 1) of the tile, by the thread that has
// them. `shared`: STAGES steps of both factors, 64 KiB.
template <class T, class LEFT, class RIGHT, class F>
__device__ void wide_tile(void* shared, LEFT left, RIGHT right, F write) {
    T* const stages = static_cast<T*>(shared);
    constexpr int OF_FACTOR = WIDE * WIDE_STEP;
    const auto copy = [&](Int step) {
        if (step * WIDE_STEP < left.depth) {
            T* const to = stages + step % STAGES * 2 * OF_FACTOR;
            left.copy(to, step * WIDE_STEP), right.copy(to + OF_FACTOR, step * WIDE_STEP);
        }
        cp_async_commit();
    };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = warp / 2 * 64, column = warp % 2 * 64;
    float sums[4][8][4] = {};
    for (int step = 0; step < STAGES; step++) left.prepare(step), right.prepare(step);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) copy(step);
    for (Int step = 0; step * WIDE_STEP < left.depth; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();  // step is there for all, and none reads the one that is written next
        copy(step + STAGES - 1);
        left.prepare(step + STAGES), right.prepare(step + STAGES);
        const T* const of_left = stages + step % STAGES * 2 * OF_FACTOR;
        const T* const of_right = of_left + OF_FACTOR;
#pragma unroll
        for (int k = 0; k < WIDE_STEP; k += 16) {
            unsigned a[4][4], b[4][4];
#pragma unroll
            for (int m = 0; m < 4; m++) LEFT::left(a[m], of_left, row + 16 * m, k);
#pragma unroll
            for (int n = 0; n < 4; n++) RIGHT::right(b[n], of_right, column + 16 * n, k);
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    const unsigned of_n[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
                    mma_m16n8k16<T>(sums[m][n], a[m], of_n);
                }
        }
    }
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                write(row + 16 * m + 8 * i + lane / 4, column + 8 * n + lane % 4 * 2, sums[m][n][2 * i],
                      sums[m][n][2 * i + 1]);
}
