// A tile of a product, by one block of 128 threads, with factors from any source:
//
//     out[i, j] = sum of left[i, k] * right[j, k] over first <= k < last        i, j = 0 .. 63
//
// A factor is a struct that loads 16 bytes of numbers that are consecutive in k ("depth"): from a matrix,
// its transpose, or the windows of an image (without storing these).
//
//     ALONG_DEPTH                     whether neighbours along depth are adjacent in memory: then lanes
//                                     divide a row's packs, else the rows
//     Row row(int i)                  the state that a thread keeps for row i of the tile
//     prepare(k, turn)                writes the block's data for the step from k on to shared memory
//     load(row, k, part, turn)        pack `part` of 4 of that step; zeros outside
//
// A step reads 64 bytes of each row of both factors. They are loaded into registers while the previous
// step is multiplied, and shared memory holds two steps, so one barrier per step is enough. In float32 and
// float64, each thread sums 8 x 4 numbers; 16-bit numbers are multiplied by tensor cores (from sm_80 on),
// 32 x 32 per warp, and summed in float32. A step reads 2 x 64 numbers for each 64 x 64 products: 16
// operations per byte in float32, 32 in 16 bits, which the L2 cache must supply.
#pragma once
#include "rows.cuh"
#include <tensor_cores.cuh>

constexpr int TILE = 64, TILE_THREADS = 128, PARTS = 4;
template <class T> constexpr int PACK = 16 / sizeof(T);
template <class T> constexpr int DEPTH = PARTS * PACK<T>;  // per step
template <class T> using PackOf = Pack<T, PACK<T>>;

template <class T> __device__ PackOf<T> no_numbers() {
    PackOf<T> none;
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) none.values[i] = T(0.0f);
    return none;
}

// Multiplies on CUDA cores: row i of the block's tile belongs to the threads of i / 8, column j to
// those of j % 64 / 4.
template <class T> struct CudaCores {
    typedef T Factor[DEPTH<T>][TILE + 16 / sizeof(T)];
    struct alignas(16) Stage { Factor left, right; };
    computed<T> sums[8][4];

    static __device__ void store(Factor& factor, int row, int part, const PackOf<T>& pack) {
#pragma unroll
        for (int i = 0; i < PACK<T>; i++) factor[part * PACK<T> + i][row] = pack.values[i];
    }
    __device__ void multiply(const Stage& stage) {
        const int row = threadIdx.x / 16 * 8, column = threadIdx.x % 16 * 4;
#pragma unroll(sizeof(T) == 8 ? 1 : 4)  // more at once would spill registers
        for (int k = 0; k < DEPTH<T>; k++) {
            const auto low = load_pack<4>(&stage.left[k][row]);
            const auto high = load_pack<4>(&stage.left[k][row + 4]);
            const auto right = load_pack<4>(&stage.right[k][column]);
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sums[i][j] += computed<T>((i < 4 ? low : high).values[i % 4]) *
                                  computed<T>(right.values[j]);
        }
    }
    template <class F> __device__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                f(int(threadIdx.x / 16 * 8 + i), int(threadIdx.x % 16 * 4 + j), sums[i][j]);
    }
};

// Multiplies 16-bit floats on tensor cores: each warp has a quarter of the tile. Rows of 80 bytes
// start in eight different groups of banks.
template <class T> struct TensorCores {
    typedef T Factor[TILE][DEPTH<T> + 8];
    struct alignas(16) Stage { Factor left, right; };
    float sums[2][4][4];  // 16 rows by 8 columns each: 2 vertically, 4 horizontally

    static __device__ void store(Factor& factor, int row, int part, const PackOf<T>& pack) {
        *reinterpret_cast<PackOf<T>*>(&factor[row][part * PACK<T>]) = pack;
    }
    __device__ void multiply(const Stage& stage) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int k = 0; k < DEPTH<T>; k += 16) {
            unsigned a[2][4], b[4][2], four[4];
#pragma unroll
            for (int m = 0; m < 2; m++)
                ldmatrix(a[m], &stage.left[first_row() + 16 * m + lane % 16][k + lane / 16 * 8]);
#pragma unroll
            for (int n = 0; n < 4; n += 2) {
                const int column = first_column() + 8 * n + lane / 16 * 8 + lane % 8;
                ldmatrix(four, &stage.right[column][k + lane / 8 % 2 * 8]);
                b[n][0] = four[0], b[n][1] = four[1], b[n + 1][0] = four[2], b[n + 1][1] = four[3];
            }
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int n = 0; n < 4; n++) mma_m16n8k16<T>(sums[m][n], a[m], b[n]);
        }
    }
    template <class F> __device__ void each(F f) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    f(first_row() + 16 * m + lane / 4 + i / 2 * 8,
                      first_column() + 8 * n + lane % 4 * 2 + i % 2, sums[m][n][i]);
    }
    static __device__ int first_row() { return threadIdx.x / 64 * 32; }
    static __device__ int first_column() { return threadIdx.x / 32 % 2 * 32; }
};

template <class T> struct MultiplierOf { typedef CudaCores<T> type; };
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <> struct MultiplierOf<__half> { typedef TensorCores<__half> type; };
template <> struct MultiplierOf<__nv_bfloat16> { typedef TensorCores<__nv_bfloat16> type; };
#endif

// The two packs of a factor that a thread loads in a step.
template <class T, class FACTOR> struct Loads {
    const FACTOR& factor;
    typename FACTOR::Row rows[2];
    PackOf<T> packs[2];

    static __device__ int row(int i) {
        return FACTOR::ALONG_DEPTH ? threadIdx.x / PARTS + 32 * i : threadIdx.x % TILE;
    }
    static __device__ int part(int i) {
        return FACTOR::ALONG_DEPTH ? threadIdx.x % PARTS : threadIdx.x / TILE + 2 * i;
    }
    __device__ explicit Loads(const FACTOR& factor)
        : factor(factor), rows{factor.row(row(0)), factor.row(row(1))} {}
    __device__ void load(Int k, int turn) {
#pragma unroll
        for (int i = 0; i < 2; i++) packs[i] = factor.load(rows[i], k, part(i), turn);
    }
    template <class MULTIPLIER> __device__ void store(typename MULTIPLIER::Factor& to) const {
#pragma unroll
        for (int i = 0; i < 2; i++) MULTIPLIER::store(to, row(i), part(i), packs[i]);
    }
};

// Calls write(i, j, sum) for each element of the tile, by the thread that has it.
template <class T, class LEFT, class RIGHT, class F>
__device__ void tile_product(const LEFT& left, const RIGHT& right, Int first, Int last, F write) {
    typedef typename MultiplierOf<T>::type Multiplier;
    __shared__ typename Multiplier::Stage stages[2];
    Multiplier multiplier = {};
    Loads<T, LEFT> of_left(left);
    Loads<T, RIGHT> of_right(right);
    right.prepare(first, 0);
    __syncthreads();
    of_left.load(first, 0), of_right.load(first, 0);
    int turn = 0;
    for (Int k = first; k < last; k += DEPTH<T>, turn ^= 1) {
        const Int next = k + DEPTH<T>;
        of_left.template store<Multiplier>(stages[turn].left);
        of_right.template store<Multiplier>(stages[turn].right);
        if (next < last) right.prepare(next, turn ^ 1);
        __syncthreads();
        if (next < last) of_left.load(next, turn ^ 1), of_right.load(next, turn ^ 1);
        multiplier.multiply(stages[turn]);
    }
    multiplier.each(write);
}

// Rows are contiguous along depth: element (i, k) at matrix[i * stride + k].
template <class T> struct AlongDepth {
    static constexpr bool ALONG_DEPTH = true;
    typedef const T* Row;  // null past the last one
    const T* matrix;
    Int rows, stride, last;

    __device__ Row row(int i) const { return i < rows ? matrix + i * stride : nullptr; }
    __device__ void prepare(Int, int) const {}
    __device__ PackOf<T> load(Row row, Int k, int part, int) const {
        PackOf<T> pack = no_numbers<T>();
        k += part * PACK<T>;
        if (!row || k >= last) return pack;
        if (k + PACK<T> <= last && is_aligned<PACK<T>>(row + k)) return load_pack<PACK<T>>(row + k);
#pragma unroll
        for (int i = 0; i < PACK<T>; i++)
            if (k + i < last) pack.values[i] = row[k + i];
        return pack;
    }
};

// Rows are contiguous across depth: element (i, k) at matrix[k * stride + i].
template <class T> struct AcrossDepth {
    static constexpr bool ALONG_DEPTH = false;
    typedef const T* Row;
    const T* matrix;
    Int rows, stride, last;

    __device__ Row row(int i) const { return i < rows ? matrix + i : nullptr; }
    __device__ void prepare(Int, int) const {}
    __device__ PackOf<T> load(Row row, Int k, int part, int) const {
        PackOf<T> pack = no_numbers<T>();
        k += part * PACK<T>;
        if (!row) return pack;
        const int there = int(min(last - k, Int(PACK<T>)));
        const T* at = row + k * stride;  // one running address: eight would take more registers
#pragma unroll
        for (int i = 0; i < PACK<T>; i++, at += stride)
            if (i < there) pack.values[i] = *at;
        return pack;
    }
};
