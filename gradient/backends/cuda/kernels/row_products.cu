// Products of one to four rows with up to three matrices, and what a decoder's step does before and
// after them, in one launch.
//
//     y_i[m, n] = sum_k x[m, k] * weight_i[n, k]            x, after its RMS norm where there is one
//     out = y + bias, residual + y, or silu(y_0) * y_1       each rounded where the calls would round
//
// x (batch, columns) lies row by row, and so do the matrices (outputs, columns). A warp has one row of a
// matrix, or ROWS: neighbours, or the same row of the two that are gated. A lane loads 16 bytes, two
// halves of DEPTH loads for each row, of which one is under way while the other is used: 4 KiB a warp,
// about 90 KiB a multiprocessor, where 40 keep an H100's memory busy. The loads of the weights begin
// before x is read, which the block puts into shared memory. The lanes' sums are added up in an order
// that hangs on the number of columns alone.
//
// Bytes: the matrices once; x for each block of 8 warps, from the L2 cache. Instructions for 16 bytes of
// bfloat16: 26 a lane, which an H100's multiprocessor issues in a sixth of the time that memory takes.
// Q4_0: a lane has a block of 32 weights, in about 110 (2 for each code, which becomes the float
// 1 + q / 16, an FMA for each, 9 loads of x), three quarters of memory's time.
// Expected on an H100 (not measured): 85 % of memory's bandwidth for matrices of 20 MB and more; those of
// 2 to 10 MB take some 2 us above that.
//
// Grid: a block for each 8 warps' rows. Shared memory: x, as a format wants it.
#include "functions.cuh"
#include "packed.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;

// 16 bytes that are read once: they leave the caches first. They stay words until they are used, for to
// take numbers of 16 bits apart is to wait for them.
__device__ inline uint4 load_once(const void* at) { return __ldcs(static_cast<const uint4*>(at)); }

// What a format of a matrix is to this product:
//   Load     what a lane loads of a row at a time; N, the numbers of a row that are
//   pitch    numbers of shared memory for a row of x
//   put      writes N_X numbers of x to shared memory; every lane of the warp calls it
//   use      adds the product of a load with x
template <class T> struct Numbers {
    typedef computed<T> A;
    typedef uint4 Load;
    typedef T Held;
    static constexpr int N = 16 / sizeof(T);
    static __device__ int pitch(int columns) { return columns; }
    static __device__ Load load(const void* codes, const void*, Int row, int columns, int at) {
        return load_once(static_cast<const T*>(codes) + row * columns + at);
    }
    static __device__ void put(Held* of_x, int at, bool inside, const Pack<T, N>& x) {
        if (inside) *reinterpret_cast<Pack<T, N>*>(of_x + at) = x;
    }
    static __device__ void use(const Load& weights, const Held* of_x, int at, A& sum) {
        const auto x = load_pack<N>(of_x + at), w = *reinterpret_cast<const Pack<T, N>*>(&weights);
#pragma unroll
        for (int k = 0; k < N; k++) sum += A(x.values[k]) * A(w.values[k]);
    }
};

// scale * (q - 8), taken apart as `q4_0` of packed.cuh has it: byte i of a block holds weights i and
// i + 16. A shift brings both to where a float of 1 has bits to spare, so that one mask each makes numbers
// of them: 1 + q / 256 of the first, 1 + q / 16 of the second.
//     sum_k x (q - 8) = 256 sum_k x (1 + q / 256) - 264 sum_k x, or 16 sum_k x (1 + q / 16) - 24 sum_k x
// x lies in shared memory as float32, 36 numbers for each 32: these, and what is subtracted of the first and
// of the second 16. So eight lanes read 16 bytes each from all 32 banks. Of sums of 32 numbers this costs 8
// of 24 bits, where the result has 11.
template <class T> struct FourBits {
    typedef float A;
    struct Load { uint4 codes; __half scale; };
    typedef float Held;
    static constexpr int N = 32, N_X = 16 / sizeof(T), PITCH = 36;
    static __device__ int pitch(int columns) { return columns / N * PITCH; }
    static __device__ Load load(const void* codes, const void* scales, Int row, int columns, int at) {
        const Int block = row * (columns / N) + at / N;
        return {load_once(static_cast<const Byte*>(codes) + block * 16),
                static_cast<const __half*>(scales)[block]};
    }
    static __device__ void put(Held* of_x, int at, bool inside, const Pack<T, N_X>& x) {
        float sum = 0;
        Pack<float, N_X> wide;
#pragma unroll
        for (int k = 0; k < N_X; k++) wide.values[k] = float(x.values[k]), sum += wide.values[k];
#pragma unroll
        for (int distance = 1; distance < N / 2 / N_X; distance *= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (!inside) return;
        of_x += at / N * PITCH;
#pragma unroll
        for (int k = 0; k < N_X; k += 4)
            *reinterpret_cast<Pack<float, 4>*>(of_x + at % N + k) =
                Pack<float, 4>{wide.values[k], wide.values[k + 1], wide.values[k + 2], wide.values[k + 3]};
        if (at % N == 0) of_x[N] = 264.0f * sum;
        if (at % N == N / 2) of_x[N + 1] = 24.0f * sum;
    }
    static __device__ float number(unsigned moved, unsigned mask) {
        return __uint_as_float((moved & mask) | 0x3f800000u);
    }
    static __device__ void use(const Load& weights, const Held* of_x, int at, A& sum) {
        of_x += at / N * PITCH;
        const unsigned words[4] = {weights.codes.x, weights.codes.y, weights.codes.z, weights.codes.w};
        float first[2] = {}, second[2] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const auto low = load_pack<4>(of_x + 4 * i), high = load_pack<4>(of_x + 16 + 4 * i);
            const unsigned moved[4] = {words[i] << 15, words[i] << 7, words[i] >> 1, words[i] >> 9};
#pragma unroll
            for (int k = 0; k < 4; k++) {
                first[i % 2] += low.values[k] * number(moved[k], 0x00078000u);
                second[i % 2] += high.values[k] * number(moved[k], 0x00780000u);
            }
        }
        const float of_first = 256.0f * (first[0] + first[1]) - of_x[N];
        const float of_second = 16.0f * (second[0] + second[1]) - of_x[N + 1];
        sum += float(weights.scale) * (of_first + of_second);
    }
};

// A matrix, and where its products go.
template <class T> struct Matrix {
    const void *codes, *scales;
    T* out;
    Int outputs;
};

// 1 / sqrt(mean(x^2) + eps) of a row, added up as `rms_norm` of norms.cu does with a block of `threads`.
template <class T> __device__ computed<T> norm_of(const T* x, int columns, computed<T> eps, int threads) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T);
    __shared__ A of_warp[32];
    const int lane = threadIdx.x % 32;
    for (int thread = threadIdx.x; thread < threads; thread += THREADS) {
        A sum = 0;
        for (int i = thread * N; i < columns; i += threads * N) {
            const auto pack = load_pack<N>(x + i);
#pragma unroll
            for (int k = 0; k < N; k++) sum += A(pack.values[k]) * A(pack.values[k]);
        }
        for (int distance = 16; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (lane == 0) of_warp[thread / 32] = sum;
    }
    __syncthreads();
    A sum = lane < threads / 32 ? of_warp[lane] : A(0);
    for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    __syncthreads();  // of_warp may be written again
    return 1 / sqrt(sum / A(columns) + eps);
}

template <class FORMAT, int BATCH, int ROWS, bool GATED, class T>
__device__ void row_product(const T* x, const T* norm, double eps, Int round_first, Int norm_threads,
                            Matrix<T> a, Matrix<T> b, Matrix<T> c, const T* residual, const T* bias,
                            int columns, int batch) {
    typedef computed<T> A;
    constexpr int N_X = 16 / sizeof(T), N = FORMAT::N, DEPTH = 4 / ROWS;
    extern __shared__ float4 shared[];
    typename FORMAT::Held* const of_x = reinterpret_cast<typename FORMAT::Held*>(shared);
    const int lane = threadIdx.x % 32, pitch = FORMAT::pitch(columns), count = BATCH == 1 ? 1 : batch;
    const Int first = (Int(blockIdx.x) * WARPS + threadIdx.x / 32) * (GATED ? 1 : ROWS);

    Matrix<T> of[ROWS];
    Int row[ROWS];
    bool exists[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        row[r] = GATED ? first : first + r;
        of[r] = GATED && r ? b : a;
        if (!GATED && row[r] >= a.outputs) {
            row[r] -= a.outputs, of[r] = b;
            if (row[r] >= b.outputs) row[r] -= b.outputs, of[r] = c;
        }
        exists[r] = row[r] < of[r].outputs;
        if (!exists[r]) of[r] = a, row[r] = 0;  // is read, for nothing
    }
    typename FORMAT::Load low[DEPTH][ROWS], high[DEPTH][ROWS];
    // Past the last number of a row the last ones are read again, and not used.
    const auto load = [&](typename FORMAT::Load (&held)[DEPTH][ROWS], int from) {
        if (from >= columns) return;
#pragma unroll
        for (int d = 0; d < DEPTH; d++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const int at = from + (d * 32 + lane) * N;
                held[d][r] = FORMAT::load(of[r].codes, of[r].scales, row[r], columns,
                                          at < columns ? at : columns - N);
            }
    };
    constexpr int HALF = DEPTH * 32 * N;
    load(low, 0), load(high, HALF);

    for (int m = 0; m < BATCH; m++) {
        if (m >= count) break;
        const T* of_row = x + Int(m) * columns;
        if (norm) {
            const A scale = norm_of(of_row, columns, A(eps), int(norm_threads));
#pragma unroll 1
            for (int from = 0; from < columns; from += THREADS * N_X) {
                const int at = from + threadIdx.x * N_X, read = at < columns ? at : 0;
                auto pack = load_pack<N_X>(of_row + read);
                const auto times = load_pack<N_X>(norm + read);
#pragma unroll
                for (int k = 0; k < N_X; k++) {
                    A normed = A(pack.values[k]) * scale;
                    if (round_first) normed = A(T(normed));
                    pack.values[k] = T(normed * A(times.values[k]));
                }
                FORMAT::put(of_x + m * pitch, at, at < columns, pack);
            }
        } else {
#pragma unroll 2
            for (int from = 0; from < columns; from += THREADS * N_X) {
                const int at = from + threadIdx.x * N_X;
                FORMAT::put(of_x + m * pitch, at, at < columns,
                            load_pack<N_X>(of_row + (at < columns ? at : 0)));
            }
        }
    }
    __syncthreads();

    A sums[ROWS][BATCH] = {};
    const auto use = [&](typename FORMAT::Load (&held)[DEPTH][ROWS], int from) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const int at = from + (d * 32 + lane) * N;
            if (at >= columns) continue;
#pragma unroll
            for (int m = 0; m < BATCH; m++) {
                if (m >= count) break;
#pragma unroll
                for (int r = 0; r < ROWS; r++) FORMAT::use(held[d][r], of_x + m * pitch, at, sums[r][m]);
            }
        }
    };
    for (int from = 0; from < columns; from += 2 * HALF) {
        use(low, from);
        load(low, from + 2 * HALF);
        use(high, from + HALF);
        load(high, from + 3 * HALF);
    }
#pragma unroll
    for (int m = 0; m < BATCH; m++) {
        if (m >= count) break;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            for (int distance = 16; distance > 0; distance /= 2)
                sums[r][m] += __shfl_xor_sync(0xffffffffu, sums[r][m], distance);
        if (lane) continue;
        if constexpr (GATED) {
            if (!exists[0]) continue;
            const A gate = A(T(sums[0][m])), up = A(T(sums[1][m]));
            of[0].out[Int(m) * of[0].outputs + row[0]] = T(A(T(gate * sigmoid(gate))) * up);
        } else {
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (!exists[r]) continue;
                const Int place = Int(m) * of[r].outputs + row[r];
                A sum = sums[r][m];
                if (bias) sum += A(bias[row[r]]);
                of[r].out[place] = residual ? T(A(residual[place]) + A(T(sum))) : T(sum);
            }
        }
    }
}

#define PRODUCT(KERNEL, FORMAT, BATCH, ROWS, GATED, NAME, T)                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) KERNEL##_##BATCH##_##NAME(            \
        const T* x, const T* norm, double eps, Int round_first, Int norm_threads,                  \
        const void* codes_0, const void* codes_1, const void* codes_2, const void* scales_0,       \
        const void* scales_1, const void* scales_2, T* out_0, T* out_1, T* out_2, Int outputs_0,   \
        Int outputs_1, Int outputs_2, const T* residual, const T* bias, Int columns, Int batch) {  \
        row_product<FORMAT<T>, BATCH, ROWS, GATED>(                                                \
            x, norm, eps, round_first, norm_threads, Matrix<T>{codes_0, scales_0, out_0, outputs_0}, \
            Matrix<T>{codes_1, scales_1, out_1, outputs_1},                                        \
            Matrix<T>{codes_2, scales_2, out_2, outputs_2}, residual, bias, int(columns), int(batch)); \
    }
#define EACH_BATCH(KERNEL, FORMAT, ROWS, GATED, NAME, T) \
    PRODUCT(KERNEL, FORMAT, 1, ROWS, GATED, NAME, T)     \
    PRODUCT(KERNEL, FORMAT, 4, ROWS, GATED, NAME, T)
#define EXPORT(NAME, T)                               \
    EACH_BATCH(row_product, Numbers, 1, false, NAME, T) \
    EACH_BATCH(gated_product, Numbers, 2, true, NAME, T)
FOR_EACH_FLOAT(EXPORT)
#define EXPORT_PACKED(NAME, T)                              \
    PRODUCT(row_product_q4_0, FourBits, 1, 1, false, NAME, T) \
    PRODUCT(gated_product_q4_0, FourBits, 1, 2, true, NAME, T)
FOR_EACH_HALF(EXPORT_PACKED)
