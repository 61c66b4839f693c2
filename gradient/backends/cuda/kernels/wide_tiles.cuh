// A tile of 128 x 128 elements of a product of 16-bit floats, by one block of 128 threads:
//
//     out[i, j] = sum of left[i, k] * right[j, k] over 0 <= k < depth         i, j = 0 .. 127
//
// Either factor is contiguous along depth or across it; it is a matrix, or the windows of images. A
// factor copies its part of a step: each step once, in order. The block copies steps of 32 along
// depth to shared memory asynchronously, STAGES - 1 of them ahead, so that products do not wait,
// with one barrier per step. A warp computes 64 x 64 elements. For each 16 along depth it loads 8
// times four matrices of 8 x 8 from shared memory, for 32 tensor-core products, which take about 50
// cycles of an H100's multiprocessor (mma.sync reaches five eighths of the speed of wgmma). These
// loads take 32 cycles, and the copies 16 more. A step reads 16 KiB for 2^20 operations, 64 per
// byte: if all come from the L2 cache (about 5.5 TB/s on an H100), the limit is 350 Tflop/s. A step
// has about 160 instructions, 64 of them products.
//
// Packs of 16 bytes are permuted within rows, so that the 8 rows of a matrix start in 8 groups of
// banks. Rows are aligned to 16 bytes, and have a multiple of 8 elements.
#pragma once
#include "numbers.cuh"
#include <tensor_cores.cuh>

constexpr int WIDE = 128, WIDE_THREADS = 128, WIDE_STEP = 32, STAGES = 4;
constexpr int COPIES = WIDE * WIDE_STEP / 8 / WIDE_THREADS;  // packs of a factor that a thread copies per step

// Hides a number's value from the compiler, so that it adds constants within an address, and does
// not recompute in each step which bits they set.
__device__ inline int opaque(int number) {
    asm volatile("" : "+r"(number));
    return number;
}

// The layout of a step in shared memory, for factors along depth: a thread copies pack `pack()` of
// four in COPIES rows. All threads call `prepare`, with a barrier between it and the copy of its
// step.
template <class T> struct LaidAlong {
    static __device__ int row(int i) { return threadIdx.x / 4 + WIDE_THREADS / 4 * i; }
    static __device__ int pack() { return threadIdx.x % 4; }
    __device__ void prepare(unsigned) {}
    static __device__ int place(int row, int pack) { return row * WIDE_STEP + (pack ^ row / 2 % 4) * 8; }
    // Where row(0) goes in its step; row(i) is after(i) elements later.
    static __device__ int landing() { return opaque(place(row(0), pack())); }
    static __device__ int after(int i) { return i * WIDE_THREADS / 4 * WIDE_STEP; }
    // Where a lane reads its row of 16 rows, the m-th 16 from `row` on, at depth k to k + 15: as
    // the left operand, or as two right ones.
    struct Lane {
        int at[2];
        __device__ Lane(int row, int first)
            : at{opaque(row * WIDE_STEP + first), opaque(row * WIDE_STEP + (first ^ 16))} {}
        __device__ void read(unsigned (&to)[4], const T* tile, int m, int k) const {
            ldmatrix(to, tile + at[k / 16] + m * 16 * WIDE_STEP);
        }
    };
    static __device__ Lane left(int row) { return {row, place(threadIdx.x % 16, threadIdx.x % 32 / 16)}; }
    static __device__ Lane right(int row) {
        return {row, place(threadIdx.x % 32 / 16 * 8 + threadIdx.x % 8, threadIdx.x % 16 / 8)};
    }
};

// For factors across depth: pack `pack()` of 16, at COPIES positions along depth.
template <class T> struct LaidAcross {
    static __device__ int at(int i) { return threadIdx.x / 16 + WIDE_THREADS / 16 * i; }
    static __device__ int pack() { return threadIdx.x % 16; }
    __device__ void prepare(unsigned) {}
    static __device__ int place(int k, int pack) { return k * WIDE + (pack ^ k % 8) * 8; }
    static __device__ int landing() { return opaque(place(at(0), pack())); }
    static __device__ int after(int i) { return i * WIDE_THREADS / 16 * WIDE; }
    struct Lane {
        int at[4];
        __device__ Lane(int row, int first) {
#pragma unroll
            for (int m = 0; m < 4; m++) at[m] = opaque(first ^ (row + 16 * m));
        }
        __device__ void read(unsigned (&to)[4], const T* tile, int m, int k) const {
            ldmatrix_trans(to, tile + at[m] + k * WIDE);
        }
    };
    static __device__ Lane left(int row) {
        return {row, place(threadIdx.x % 32 / 16 * 8 + threadIdx.x % 8, threadIdx.x % 16 / 8)};
    }
    static __device__ Lane right(int row) { return {row, place(threadIdx.x % 16, threadIdx.x % 32 / 16)}; }
};

// Element (i, k) at matrix[i * stride + k].
template <class T> struct WideAlong : LaidAlong<T> {
    const T* next;  // a thread's first pack of the next step
    Int depth, apart;
    int rows, ahead, lands;  // `ahead`: remaining depth, from that pack on
    __device__ WideAlong(const T* matrix, Int rows, Int stride, Int depth)
        : next(matrix + this->row(0) * stride + this->pack() * 8), depth(depth),
          apart(WIDE_THREADS / 4 * stride), rows(min(rows, Int(WIDE))), ahead(int(depth) - this->pack() * 8),
          lands(this->landing()) {}
    __device__ void copy(T* to) {
        const T* from = next;
#pragma unroll
        for (int i = 0; i < COPIES; i++, from += apart) {
            const bool there = this->row(i) < rows && ahead > 0;
            cp_async(to + lands + this->after(i), from, there ? 16 : 0);
        }
        next += WIDE_STEP, ahead -= WIDE_STEP;
    }
};

// Element (i, k) at matrix[k * stride + i].
template <class T> struct WideAcross : LaidAcross<T> {
    const T* next;
    Int depth, apart;
    int ahead, lands;  // `ahead` is 0 for packs outside
    __device__ WideAcross(const T* matrix, Int rows, Int stride, Int depth)
        : next(matrix + this->at(0) * stride + this->pack() * 8), depth(depth),
          apart(WIDE_THREADS / 16 * stride), ahead(this->pack() * 8 < rows ? int(depth) : 0), lands(this->landing()) {}
    __device__ void copy(T* to) {
        const T* from = next;
#pragma unroll
        for (int i = 0; i < COPIES; i++, from += apart) {
            cp_async(to + lands + this->after(i), from, this->at(i) < ahead ? 16 : 0);
        }
        next = from, ahead -= WIDE_STEP;
    }
};

template <class T> __device__ inline void store_two(T* at, float first, float second) {
    *reinterpret_cast<unsigned*>(at) = two<T>(first, second);
}

// Calls write(j)(i, sum, next) for elements (i, j) and (i, j + 1) of the tile, by the thread that
// has them. `shared`: STAGES steps of both factors, 64 KiB. Depth fits an int.
template <class T, class LEFT, class RIGHT, class F>
__device__ void wide_tile(void* shared, LEFT left, RIGHT right, F write) {
    T* const stages = static_cast<T*>(shared);
    constexpr int OF_FACTOR = WIDE * WIDE_STEP;
    const unsigned steps = unsigned(left.depth + WIDE_STEP - 1) / WIDE_STEP;
    const auto copy = [&](unsigned step) {
        if (step < steps) {
            T* const to = stages + step % STAGES * 2 * OF_FACTOR;
            left.copy(to), right.copy(to + OF_FACTOR);
        }
        cp_async_commit();
    };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = warp / 2 * 64, column = warp % 2 * 64;
    const typename LEFT::Lane of_rows = LEFT::left(row);
    const typename RIGHT::Lane of_columns = RIGHT::right(column);
    float sums[4][8][4] = {};
    for (int step = 0; step < STAGES; step++) left.prepare(step), right.prepare(step);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) copy(step);
    for (unsigned step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();  // the step is loaded; nobody reads the one that is overwritten next
        copy(step + STAGES - 1);
        left.prepare(step + STAGES), right.prepare(step + STAGES);
        const T* const of_left = stages + step % STAGES * 2 * OF_FACTOR;
        const T* const of_right = of_left + OF_FACTOR;
#pragma unroll
        for (int k = 0; k < WIDE_STEP; k += 16) {
            unsigned a[4][4], b[4][4];
#pragma unroll
            for (int m = 0; m < 4; m++) of_rows.read(a[m], of_left, m, k);
#pragma unroll
            for (int n = 0; n < 4; n++) of_columns.read(b[n], of_right, n, k);
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
    for (int n = 0; n < 8; n++) {
        const auto put = write(column + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                put(row + 16 * m + 8 * i + lane / 4, sums[m][n][2 * i], sums[m][n][2 * i + 1]);
    }
}
