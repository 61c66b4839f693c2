// Products of one row of 16-bit floats with up to three packed matrices, by tensor cores, with the
// operations before and after them in a decoder's step: `row_products.cu` for packed weights.
//
//     y_i[n] = sum_k x[k] * weight_i[n, k]                   x after its RMS norm, if there is one
//     out = y + bias, residual + y, or silu(y_0) * y_1
//
// A warp computes 16 rows of the matrices by 256 columns at a time, eight blocks of 32 weights per
// row. In mma.m16n8k16 (tensor_cores.cuh), A are weights, B is x, and column n of D belongs to
// block n:
//
//     D[row, n] = sum_k A[row, k] B[k, n]       lanes t of A's rows hold block t, then block t + 4, and B
//                                               has x's numbers of that block in its column, and zeros
//                                               in the others
//
// So a lane multiplies the 16 bytes that it has loaded, whole blocks, without exchanging codes, and
// scales are applied to sums: out[row] = sum_n scale[row, n] D[row, n]. Weights are exact in x's
// type (`Codes`), and products in float32, so only sums are rounded. All warps of a block compute
// the same 16 rows: warp w takes steps w, w + warps, ... of 256 columns. Their sums are added in a
// fixed order.
//
// The loads of weights start before x is available: in a graph, before the previous kernels have
// ended. If a block has one or two tiles of rows, all of its weights are loaded then. The remaining
// time of a product is the load of x from the L2 cache, the norm, about 260 instructions of a warp
// per 16 x 256 weights of Q4_0 in bfloat16 (for the others, see packed_tiles.cuh), 16 of them mma,
// and the sum over warps in shared memory. With 64 registers, of which 36 hold weights, blocks
// of several kernels are resident together: 64 KiB of weights per multiprocessor. (Lanes that
// multiply by themselves take 400 instructions for as many weights, and each applies the norm to 64
// numbers instead of 8.)
//
// Other loads must not wait for the weights. A use behind a branch waits for all loads whose uses
// are behind branches. So x is used directly where it is loaded, and the norm's weights and the
// residual or bias are copied to shared memory asynchronously
// (tests/backends/test_cuda_machine_code.py).
//
// Bytes: the packed matrices once; x once per block, from the L2 cache. Grid: blocks loop over
// every gridDim.x-th tile of 16 rows. Shared memory: x in the layout of B, per warp, and sums.
#include <following.cuh>

#include "packed_tiles.cuh"

constexpr int BLOCK = 32, STEP = 256, ROWS_OF_TILE = 16;
constexpr int OF_STEP = STEP / 2, SUMS = 16, ZEROS = 16;  // words per step for numbers and for sums, and of zeros

// Writes eight numbers of x, from 8 lane on in a step, in the layout of B (`Numbers`).
template <bool IN_ORDER, class T> __device__ void put(unsigned* words, const Pack<T, 8>& pack) {
    const unsigned* const pairs = reinterpret_cast<const unsigned*>(&pack);
    const int lane = threadIdx.x % 32, q = lane % 4;
    words += lane / 4 * (BLOCK / 2) + (IN_ORDER ? 4 * q : q % 2 * 8 + q / 2);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const unsigned first = pairs[IN_ORDER ? i : 2 * i], second = pairs[IN_ORDER ? i + 2 : 2 * i + 1];
        unsigned* const to = words + (IN_ORDER ? 2 : 4) * i;
        to[0] = (first & 0xffffu) | second << 16;
        to[IN_ORDER ? 1 : 2] = first >> 16 | (second & 0xffff0000u);
    }
}

// Words of shared memory for a warp with that many steps: numbers, their sums, zeros.
__device__ inline int words_of_warp(int steps) { return steps * (OF_STEP + SUMS) + ZEROS; }

template <class FORMAT, bool GATED, class T>
__device__ void tile_product(const T* x, const T* norm, double eps, Int round_first, Int norm_threads,
                             const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& c,
                             const T* residual, const T* bias, int columns, int steps, int group) {
    constexpr int UNITS = GATED ? 8 : 16, DEPTH = FORMAT::DEPTH, N = 8;
    extern __shared__ float4 shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int g = lane / 4, t = lane % 4, blocks = columns / BLOCK;
    const int units = GATED ? a.outputs : a.outputs + b.outputs + c.outputs;
    const int tiles = (int((units + UNITS - 1) / UNITS - blockIdx.x) + int(gridDim.x) - 1) / int(gridDim.x);  // of this block
    unsigned* const words = reinterpret_cast<unsigned*>(shared) + warp * words_of_warp(steps);
    float* const sums_of_x = reinterpret_cast<float*>(words + steps * OF_STEP);
    unsigned* const zeros = words + steps * (OF_STEP + SUMS);
    float* const sums = reinterpret_cast<float*>(shared) + warps * words_of_warp(steps);
    const auto first_of = [&](int tile) { return int(blockIdx.x + tile * gridDim.x) * UNITS; };

    typename FORMAT::Load held[DEPTH];
    int tile = 0, at = 0;  // the tile, and the warp's step, to use next
    const auto load = [&](typename FORMAT::Load& to, int ahead) {
        int next_tile = tile, next = at + ahead;
#pragma unroll
        for (int i = 0; i < ahead; i++)
            if (next >= steps) next -= steps, next_tile++;
        if (next_tile >= tiles) return;
        Rows rows;
        rows.group = group;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int unit = min(first_of(next_tile) + g + (GATED ? 0 : 8 * half), units - 1);
            // Selects values: a selection among the structs would put all three in local memory.
            const bool in_a = GATED ? !half : unit < a.outputs, in_b = GATED || unit < a.outputs + b.outputs;
            const int row = GATED || in_a ? unit : in_b ? unit - a.outputs : unit - a.outputs - b.outputs;
            rows.codes[half] = in_a ? a.codes : in_b ? b.codes : c.codes;
            rows.scales[half] = in_a ? a.scales : in_b ? b.scales : c.scales;
            rows.zeros[half] = in_a ? a.zeros : in_b ? b.zeros : c.zeros;
            rows.row[half] = row;
        }
        FORMAT::load(to, rows, warp + next * warps, blocks);
    };
#pragma unroll
    for (int d = 0; d < DEPTH; d++) load(held[d], d);
    const int first = threadIdx.x * N < columns ? threadIdx.x * N : 0;
    if (norm) cp_async(words + 4 * lane, norm + first);  // in the place of x for the warp's first step
    cp_async_commit();
    trigger_next_kernel();  // the next kernel may load its weights now: memory is almost idle
    wait_for_previous_kernel();

    // What is added to the block's results: residual or bias (which need a single matrix).
    const T* const added = residual ? residual : bias;
    T* const plus = reinterpret_cast<T*>(sums + tiles * warps * ROWS_OF_TILE);
    if (!GATED && added)
        for (int i = threadIdx.x * N; i < tiles * UNITS; i += blockDim.x * N) {
            const int unit = first_of(i / UNITS) + i % UNITS, left = units - unit;
            if (left > 0) cp_async(plus + i, added + unit, min(left, N) * int(sizeof(T)));
        }
    cp_async_commit();
    float scale = 1;
    if (norm) scale = norm_of<false>(x, load_pack<N>(x + first), columns, float(eps), int(norm_threads));
    if (lane < ZEROS) zeros[lane] = 0;
    cp_async_wait<1>();
#pragma unroll 1
    for (int i = 0; i < steps; i++) {
        const int at = ((warp + i * warps) * 32 + lane) * N, read = at < columns ? at : 0;
        auto pack = load_pack<N>(x + read);  // with a norm, from the L1 cache again: registers are used by weights
        if (norm) {
            const auto* const first_times = reinterpret_cast<const Pack<T, N>*>(words + 4 * lane);
            pack = normed(pack, i ? load_pack<N>(norm + read) : *first_times, scale, round_first);
        }
        float sum = 0;
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (at >= columns) pack.values[k] = T(0.0f);
            sum += float(pack.values[k]);
        }
        __syncwarp();  // all lanes have read the norm's weights here
        put<FORMAT::IN_ORDER>(words + i * OF_STEP, pack);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        if (lane % 2 == 0) sums_of_x[i * SUMS + lane / 2] = sum;
    }
    __syncwarp();

    float totals[2] = {};
    const auto use = [&](const typename FORMAT::Load& held) {
        const Numbers numbers{words + at * OF_STEP, zeros, sums_of_x + at * SUMS};
        FORMAT::template add<T>(held, numbers, totals);
        if (++at < steps) return;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            for (int distance = 1; distance < 4; distance *= 2)
                totals[half] += __shfl_xor_sync(0xffffffffu, totals[half], distance);
            if (t == 0) sums[(tile * warps + warp) * ROWS_OF_TILE + g + 8 * half] = totals[half];
            totals[half] = 0;
        }
        at = 0, tile++;
    };
#pragma unroll 1
    while (tile < tiles)
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            if (tile >= tiles) break;
            use(held[d]);
            load(held[d], DEPTH - 1);
        }
    cp_async_wait<0>();
    __syncthreads();

    // A warp adds up the sums of a tile: lanes r and r + 16 those of row r by even and by odd warps.
#pragma unroll 1
    for (int of = warp; of < tiles; of += warps) {
        const float* const of_row = sums + of * warps * ROWS_OF_TILE + lane % 16;
        float whole = 0;
#pragma unroll
        for (int w = 0; w < FORMAT::WARPS; w += 2) {
            const int by = w + lane / 16;
            if (by < warps) whole += of_row[by * ROWS_OF_TILE];
        }
        whole += __shfl_xor_sync(0xffffffffu, whole, 16);
        const float other = GATED ? __shfl_xor_sync(0xffffffffu, whole, 8) : 0.0f;
        const int unit = first_of(of) + lane;
        if (lane >= UNITS || unit >= units) continue;
        if constexpr (GATED) {
            const float gate = float(T(whole)), up = float(T(other));
            a.out[unit] = T(float(T(gate * sigmoid(gate))) * up);
        } else {
            const bool in_a = unit < a.outputs, in_b = unit < a.outputs + b.outputs;
            T* const out = in_a ? a.out + unit : in_b ? b.out + (unit - a.outputs) : c.out + (unit - a.outputs - b.outputs);
            const float more = added ? float(plus[of * UNITS + lane]) : 0.0f;
            *out = residual ? T(more + float(T(whole))) : T(bias ? whole + more : whole);
        }
    }
}

#define PRODUCT(KERNEL, FORMAT, GATED, NAME, T)                                                     \
    extern "C" __global__ void __launch_bounds__(32 * FORMAT##_tile::WARPS, 2)                      \
        KERNEL##_##FORMAT##_##NAME(                                                                 \
        const T* x, const T* norm, double eps, Int round_first, Int norm_threads,                   \
        const void* codes_0, const void* codes_1, const void* codes_2, const void* scales_0,        \
        const void* scales_1, const void* scales_2, const void* zeros_0, const void* zeros_1,       \
        const void* zeros_2, T* out_0, T* out_1, T* out_2, Int outputs_0, Int outputs_1,            \
        Int outputs_2, const T* residual, const T* bias, Int columns, Int steps, Int group) {       \
        tile_product<FORMAT##_tile, GATED>(x, norm, eps, round_first, norm_threads,                 \
                                    Matrix<T>{codes_0, scales_0, out_0, int(outputs_0), zeros_0},   \
                                    Matrix<T>{codes_1, scales_1, out_1, int(outputs_1), zeros_1},   \
                                    Matrix<T>{codes_2, scales_2, out_2, int(outputs_2), zeros_2},   \
                                    residual, bias, int(columns), int(steps), int(group));          \
    }
#define EXPORT_FORMAT(FORMAT, NAME, T)           \
    PRODUCT(row_product, FORMAT, false, NAME, T) \
    PRODUCT(gated_product, FORMAT, true, NAME, T)
#define EXPORT(NAME, T)            \
    EXPORT_FORMAT(q4_0, NAME, T)   \
    EXPORT_FORMAT(q8_0, NAME, T)   \
    EXPORT_FORMAT(q4_k, NAME, T)   \
    EXPORT_FORMAT(q5_k, NAME, T)   \
    EXPORT_FORMAT(q6_k, NAME, T)   \
    EXPORT_FORMAT(int8_channel, NAME, T) \
    EXPORT_FORMAT(int4_group, NAME, T)
FOR_EACH_HALF(EXPORT)
