// Products of one to four rows with up to three matrices, and what a decoder's step does before and
// after them, in one launch.
//
//     y_i[m, n] = sum_k x[m, k] * weight_i[n, k]            x, after its RMS norm where there is one
//     out = y + bias, residual + y, or silu(y_0) * y_1       each rounded where the calls would round
//
// x (batch, columns) lies row by row, and so do the matrices (outputs, columns). A warp has one row of a
// matrix, or the same row of the two that are gated. A lane loads 16 bytes, two halves of DEPTH loads for
// each row, of which one is under way while the other is used: of bfloat16 4 KiB a warp, about 90 KiB a
// multiprocessor, where 40 keep an H100's memory busy. The loads of the weights begin before x is read,
// which the block puts into shared memory; in a graph before the kernel ahead, which may make x, has ended
// (following.cuh). The lanes' sums are added up in an order that hangs on the number of columns alone.
//
// Bytes: the matrices once; x for each block of 8 warps, from the L2 cache. Instructions for 16 bytes of
// bfloat16: 26 a lane, which an H100's multiprocessor issues in a sixth of the time that memory takes.
// Q4_0 (`held_product`): a lane has a block of 32 weights, in about 75: a mask and an FMA for each.
//
// On an H100, begun early in a graph, of bfloat16: 99 % of memory's bandwidth (2.98 TB/s) with 131 MB, 93
// with 46 MB, 78 with 23 MB, 71 with 8.4 MB; of Q4_0 65 with 13 MB, 41 with 6.5, 27 with 2.4. cuBLAS, which
// does not begin early, of bfloat16: 86, 82, 60, 44.
//
// Grid: a block for each 8 warps' rows. Shared memory: x.
#include <following.cuh>

#include "functions.cuh"
#include "packed.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int MOST_OF_GROUPS = 32, MOST_SLICES = 12;  // of `held_product`: results of a group of warps, warps

// 16 bytes that are read once: they leave the caches first. They stay words until they are used, for to
// take numbers of 16 bits apart is to wait for them.
__device__ inline uint4 load_once(const void* at) { return __ldcs(static_cast<const uint4*>(at)); }

// scale * (q - 8), taken apart as `q4_0` of packed.cuh has it: byte i of a block holds weights i and
// i + 16. The bits n of a float below 2^24 are the number n 2^-149, so that a mask alone makes one of four
// bits where they lie: q 2^(p - 149) of those from the p-th on. Only the highest byte of four is moved.
//     sum_k x (q - 8) = 2^(149 - S) sum_k (2^(S - p) x) (q 2^(p - 149)) - 8 sum_k x
// What is multiplied by powers of two stays exact: with S = 60 where x is below 2^68 (10^20), and a product
// above 2^-37; what is below 2^-60 counts for nothing, and from 2^68 on x counts as infinite, and a
// product with infinity is infinite or NaN. (Denormals must not be flushed to zero, as by `-ftz=true`.)
struct FourBits {
    struct Load { uint4 codes; __half scale; };
    static constexpr int N = 32;
    static __device__ Load load(const void* codes, const void* scales, Int row, int columns, int at) {
        const Int block = row * (columns / N) + at / N;
        return {load_once(static_cast<const uint4*>(codes) + block),
                static_cast<const __half*>(scales)[block]};
    }
    // What the number of a block at `at` is multiplied by.
    static __device__ float power(int at) {
        return (at < 16 ? 0x1p60f : 0x1p56f) * (at % 4 == 0 ? 1.0f : at % 4 == 1 ? 0x1p-8f : 0x1p-16f);
    }
    // With a block's numbers, and eight times their sum.
    static __device__ float product(const Load& weights, const float* of_x, float sum_of_x) {
        const unsigned words[4] = {weights.codes.x, weights.codes.y, weights.codes.z, weights.codes.w};
        float parts[4] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const auto low = load_pack<4>(of_x + 4 * i), high = load_pack<4>(of_x + 16 + 4 * i);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const unsigned word = k < 3 ? words[i] : words[i] >> 8, mask = 15u << 8 * (k < 3 ? k : 2);
                parts[i] += low.values[k] * __uint_as_float(word & mask);
                parts[i] += high.values[k] * __uint_as_float(word & mask << 4);
            }
        }
        const float whole = (parts[0] + parts[1]) + (parts[2] + parts[3]);
        return float(weights.scale) * (0x1p89f * whole - sum_of_x);
    }
};

// A matrix, and where its products go.
template <class T> struct Matrix {
    const void *codes, *scales;
    T* out;
    int outputs;
};

// 1 / sqrt(mean(x^2) + eps) of a row, added up as `rms_norm` of norms.cu does with a block of `threads`;
// `first` are the numbers from 16 bytes times threadIdx.x on, where the row has these.
template <bool AGAIN, class T, int N>
__device__ computed<T> norm_of(const T* x, const Pack<T, N>& first, int columns, computed<T> eps, int threads) {
    typedef computed<T> A;
    __shared__ A of_warp[32];
    const int lane = threadIdx.x % 32;
    for (int thread = threadIdx.x; thread < threads; thread += int(blockDim.x)) {
        A sum = 0;
        for (int i = thread * N; i < columns; i += threads * N) {
            const auto pack = i == threadIdx.x * N ? first : load_pack<N>(x + i);
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
    if (AGAIN) __syncthreads();  // of_warp is written once more
    return 1 / sqrt(sum / A(columns) + eps);
}

template <int BATCH, bool GATED, class T>
__device__ void row_product(const T* x, const T* norm, double eps, Int round_first, Int norm_threads,
                            const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& c,
                            const T* residual, const T* bias, int columns, int batch) {
    typedef computed<T> A;
    constexpr int N = 16 / sizeof(T), ROWS = GATED ? 2 : 1, DEPTH = 4 / ROWS, HALF = DEPTH * 32 * N;
    typedef uint4 Loads[DEPTH][ROWS];
    extern __shared__ float4 shared[];
    T* const of_x = reinterpret_cast<T*>(shared);
    const int lane = threadIdx.x % 32, count = BATCH == 1 ? 1 : batch;
    const int units = GATED ? a.outputs : a.outputs + b.outputs + c.outputs;
    const int place = blockIdx.x * WARPS + threadIdx.x / 32, unit = min(place, units - 1);
    // Chosen by values: a choice of matrices would have all three written to memory.
    const bool in_a = GATED || unit < a.outputs, in_b = unit < a.outputs + b.outputs;
    const int row = in_a ? unit : in_b ? unit - a.outputs : unit - a.outputs - b.outputs;
    const void* const codes = in_a ? a.codes : in_b ? b.codes : c.codes;
    const T* rows[ROWS] = {static_cast<const T*>(codes) + Int(row) * columns};
    if constexpr (GATED) rows[1] = static_cast<const T*>(b.codes) + Int(row) * columns;

    // Past the last number of a row the last ones are read again, and not used.
    const auto load = [&](Loads& held, int from) {
        if (from >= columns) return;
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const int at = from + (d * 32 + lane) * N;
#pragma unroll
            for (int r = 0; r < ROWS; r++) held[d][r] = load_once(rows[r] + (at < columns ? at : columns - N));
        }
    };
    Loads low, high;
    load(low, 0), load(high, HALF);
    const int first = threadIdx.x * N < columns ? threadIdx.x * N : 0;
    Pack<T, N> first_times;
    if (BATCH == 1 && norm) first_times = load_pack<N>(norm + first);
    wait_for_the_one_before();  // which weights do not hang on
    let_the_next_begin();       // no sooner: its loads would be in the way of these

    for (int m = 0; m < BATCH; m++) {
        if (m >= count) break;
        const T* of_row = x + Int(m) * columns;
        const auto put = [&](int at, const Pack<T, N>& pack) {
            if (at < columns) *reinterpret_cast<Pack<T, N>*>(of_x + m * columns + at) = pack;
        };
        if (norm) {
            const auto first_pack = load_pack<N>(of_row + first);
            const A scale = norm_of<(BATCH > 1)>(of_row, first_pack, columns, A(eps), int(norm_threads));
#pragma unroll 1
            for (int from = 0; from < columns; from += THREADS * N) {
                const int at = from + threadIdx.x * N, read = at < columns ? at : 0;
                auto pack = from ? load_pack<N>(of_row + read) : first_pack;
                const auto times = BATCH > 1 || from ? load_pack<N>(norm + read) : first_times;
#pragma unroll
                for (int k = 0; k < N; k++) {
                    A normed = A(pack.values[k]) * scale;
                    if (round_first) normed = A(T(normed));
                    pack.values[k] = T(normed * A(times.values[k]));
                }
                put(at, pack);
            }
        } else {
            constexpr int TOGETHER = BATCH == 1 ? 3 : 1;
#pragma unroll 1
            for (int from = 0; from < columns; from += TOGETHER * THREADS * N) {
                Pack<T, N> packs[TOGETHER];
#pragma unroll
                for (int i = 0; i < TOGETHER; i++) {
                    const int at = from + (i * THREADS + threadIdx.x) * N;
                    if (from + i * THREADS * N < columns)  // for all of the block
                        packs[i] = load_pack<N>(of_row + (at < columns ? at : 0));
                }
#pragma unroll
                for (int i = 0; i < TOGETHER; i++)
                    put(from + (i * THREADS + threadIdx.x) * N, packs[i]);
            }
        }
    }
    __syncthreads();
    if (place >= units) return;

    A sums[ROWS][BATCH] = {};
    // What is added to a product is on its way meanwhile.
    const int outputs = in_a ? a.outputs : in_b ? b.outputs : c.outputs;
    T plus[BATCH], of_bias = T(0.0f);
    if constexpr (!GATED) {
        if (bias) of_bias = bias[row];
#pragma unroll
        for (int m = 0; m < BATCH; m++)
            if (residual && m < count) plus[m] = residual[Int(m) * outputs + row];
    }
    const auto use = [&](const Loads& held, int from, bool whole) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const int at = from + (d * 32 + lane) * N;
            if (!whole && at >= columns) continue;
#pragma unroll
            for (int m = 0; m < BATCH; m++) {
                if (m >= count) break;
                const auto numbers = load_pack<N>(of_x + m * columns + at);
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    const auto weights = *reinterpret_cast<const Pack<T, N>*>(&held[d][r]);
#pragma unroll
                    for (int k = 0; k < N; k++)
                        sums[r][m] += A(numbers.values[k]) * A(weights.values[k]);
                }
            }
        }
    };
    // Without branches where all of a half is there, so that loads from shared memory overlap.
    const auto use_half = [&](const Loads& held, int from) {
        const bool whole = BATCH == 1 && from + HALF <= columns;
        whole ? use(held, from, true) : use(held, from, false);
    };
#pragma unroll 1
    for (int from = 0; from < columns; from += 2 * HALF) {
        use_half(low, from);
        load(low, from + 2 * HALF);
        use_half(high, from + HALF);
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
        T* const out = (in_a ? a.out : in_b ? b.out : c.out) + Int(m) * outputs + row;
        if constexpr (GATED) {
            const A gate = A(T(sums[0][m])), up = A(T(sums[1][m]));
            *out = T(A(T(gate * sigmoid(gate))) * up);
        } else {
            A sum = sums[0][m];
            if (bias) sum += A(of_bias);
            *out = residual ? T(A(plus[m]) + A(T(sum))) : T(sum);
        }
    }
}

// The same of one row of x and rows of Q4_0 that a block has as many lanes for as blocks of 32 weights: a
// lane has x's numbers of its block in registers, for all rows of the matrices that its warp goes through,
// so that a product takes no load but its weights. SLICES warps share a row, whose sums come together at
// the end, in their order; the block has as many such groups of warps as fit in 8.
template <bool GATED, class T>
__device__ void held_product(const T* x, const T* norm, double eps, Int round_first, Int norm_threads,
                             const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& c,
                             const T* residual, const T* bias, int columns, int slices) {
    constexpr int ROWS = GATED ? 2 : 1, DEPTH = GATED ? 2 : 4, N = 32, N_X = 8;
    typedef FourBits Format;
    __shared__ float sums[MOST_OF_GROUPS * MOST_SLICES][ROWS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, groups = blockDim.x / 32 / slices;
    const int group = warp / slices, slice = warp % slices, step = gridDim.x * groups;
    const int units = GATED ? a.outputs : a.outputs + b.outputs + c.outputs;
    const bool has_block = (slice * 32 + lane) * N < columns;
    const int at = has_block ? (slice * 32 + lane) * N : columns - N;
    const int first = blockIdx.x * groups + group;

    typename Format::Load held[DEPTH][ROWS];
    const auto load = [&](int d, int unit) {
        if (unit >= units) return;
        if constexpr (GATED) {
            held[d][0] = Format::load(a.codes, a.scales, unit, columns, at);
            held[d][1] = Format::load(b.codes, b.scales, unit, columns, at);
        } else {
            const bool in_a = unit < a.outputs, in_b = unit < a.outputs + b.outputs;
            const void* codes = in_a ? a.codes : in_b ? b.codes : c.codes;
            const void* scales = in_a ? a.scales : in_b ? b.scales : c.scales;
            const int before = in_a ? 0 : in_b ? a.outputs : a.outputs + b.outputs;
            held[d][0] = Format::load(codes, scales, unit - before, columns, at);
        }
    };
#pragma unroll
    for (int d = 0; d < DEPTH; d++) load(d, first + d * step);
    wait_for_the_one_before();
    let_the_next_begin();

    // The result that the thread writes at the end, and what is added to it.
    const int mine = threadIdx.x / groups * step + blockIdx.x * groups + threadIdx.x % groups;
    const bool in_a = GATED || mine < a.outputs, in_b = mine < a.outputs + b.outputs;
    const int row = in_a ? mine : in_b ? mine - a.outputs : mine - a.outputs - b.outputs;
    float plus = 0, of_bias = 0;
    if (!GATED && mine < units) {
        if (residual) plus = float(residual[row]);
        if (bias) of_bias = float(bias[row]);
    }
    Pack<T, N_X> packs[N / N_X];
#pragma unroll
    for (int j = 0; j < N / N_X; j++) packs[j] = load_pack<N_X>(x + at + j * N_X);
    float scale = 1;
    if (norm) {
        const int pack = threadIdx.x * N_X < columns ? threadIdx.x * N_X : 0;
        scale = norm_of<false>(x, load_pack<N_X>(x + pack), columns, float(eps), int(norm_threads));
    }
    float of_x[N], sum_of_x = 0;
#pragma unroll
    for (int j = 0; j < N / N_X; j++) {
        if (norm) {
            const auto times = load_pack<N_X>(norm + at + j * N_X);
#pragma unroll
            for (int k = 0; k < N_X; k++) {
                float normed = float(packs[j].values[k]) * scale;
                if (round_first) normed = float(T(normed));
                packs[j].values[k] = T(normed * float(times.values[k]));
            }
        }
#pragma unroll
        for (int k = 0; k < N_X; k++) {
            const float value = float(packs[j].values[k]);
            sum_of_x += value;
            of_x[j * N_X + k] = value * Format::power(j * N_X + k);
        }
    }
    sum_of_x *= 8;

    int number = group;  // of the unit among the block's
    for (int unit = first; unit < units; unit += DEPTH * step)
#pragma unroll
        for (int d = 0; d < DEPTH; d++, number += groups) {
            if (unit + d * step >= units) break;
            float products[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                products[r] = has_block ? Format::product(held[d][r], of_x, sum_of_x) : 0.0f;
            load(d, unit + (DEPTH + d) * step);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                for (int distance = 16; distance > 0; distance /= 2)
                    products[r] += __shfl_xor_sync(0xffffffffu, products[r], distance);
                if (lane == 0) sums[number * slices + slice][r] = products[r];
            }
        }
    __syncthreads();
    if (mine >= units) return;
    float whole[ROWS] = {};
    for (int i = 0; i < slices; i++)
#pragma unroll
        for (int r = 0; r < ROWS; r++) whole[r] += sums[int(threadIdx.x) * slices + i][r];
    if constexpr (GATED) {
        const float gate = float(T(whole[0])), up = float(T(whole[1]));
        a.out[mine] = T(float(T(gate * sigmoid(gate))) * up);
    } else {
        T* const out = in_a ? a.out : in_b ? b.out : c.out;
        const float sum = bias ? whole[0] + of_bias : whole[0];
        out[row] = residual ? T(plus + float(T(sum))) : T(sum);
    }
}

#define PRODUCT(KERNEL, BATCH, GATED, BLOCKS, NAME, T)                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) KERNEL##_##BATCH##_##NAME(      \
        const T* x, const T* norm, double eps, Int round_first, Int norm_threads,                 \
        const void* codes_0, const void* codes_1, const void* codes_2, const void* scales_0,      \
        const void* scales_1, const void* scales_2, T* out_0, T* out_1, T* out_2, Int outputs_0,  \
        Int outputs_1, Int outputs_2, const T* residual, const T* bias, Int columns, Int batch) { \
        row_product<BATCH, GATED>(                                                                \
            x, norm, eps, round_first, norm_threads,                                              \
            Matrix<T>{codes_0, scales_0, out_0, int(outputs_0)},                                  \
            Matrix<T>{codes_1, scales_1, out_1, int(outputs_1)},                                  \
            Matrix<T>{codes_2, scales_2, out_2, int(outputs_2)}, residual, bias, int(columns),    \
            int(batch));                                                                          \
    }
#define EXPORT(NAME, T)                                  \
    PRODUCT(row_product, 1, false, 3, NAME, T)  \
    PRODUCT(row_product, 4, false, 3, NAME, T)  \
    PRODUCT(gated_product, 1, true, 3, NAME, T) \
    PRODUCT(gated_product, 4, true, 2, NAME, T)
FOR_EACH_FLOAT(EXPORT)
#define HELD_PRODUCT(KERNEL, GATED, NAME, T)                                                        \
    extern "C" __global__ void __launch_bounds__(32 * MOST_SLICES, 2) KERNEL##_held_##NAME(          \
        const T* x, const T* norm, double eps, Int round_first, Int norm_threads,                   \
        const void* codes_0, const void* codes_1, const void* codes_2, const void* scales_0,        \
        const void* scales_1, const void* scales_2, T* out_0, T* out_1, T* out_2, Int outputs_0,    \
        Int outputs_1, Int outputs_2, const T* residual, const T* bias, Int columns, Int slices) {  \
        held_product<GATED>(x, norm, eps, round_first, norm_threads,                                \
                            Matrix<T>{codes_0, scales_0, out_0, int(outputs_0)},                    \
                            Matrix<T>{codes_1, scales_1, out_1, int(outputs_1)},                    \
                            Matrix<T>{codes_2, scales_2, out_2, int(outputs_2)}, residual, bias,    \
                            int(columns), int(slices));                                             \
    }
#define EXPORT_HELD(NAME, T)                          \
    HELD_PRODUCT(row_product_q4_0, false, NAME, T)    \
    HELD_PRODUCT(gated_product_q4_0, true, NAME, T)
FOR_EACH_HALF(EXPORT_HELD)
