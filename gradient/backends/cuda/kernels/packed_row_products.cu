// Products of one row of 16-bit floats with up to three packed matrices, by tensor cores, with the
// operations before and after them in a decoder's step: `row_products.cu` for packed weights.
//
//     y_i[n] = sum_k x[k] * weight_i[n, k]                   x after its RMS norm, if there is one
//     out = y + bias, residual + y, or silu(y_0) * y_1
//
// A warp computes 16 rows of the matrices by 256 columns at a time (packed_tiles.cuh). Weights stay
// the integers that they are, x becomes integers (digits.cuh), and products are summed as integers;
// scales are applied to the sums of blocks of 32. So no weight is converted to a float. All warps of
// a block compute the same 16 rows: warp w takes steps w, w + warps, ... of 256 columns. Their sums
// are added in a fixed order.
//
// Weights are copied to shared memory asynchronously. The first copies start before x is available:
// in a graph, before the previous kernels have ended. If a warp has DEPTH tiles or fewer, all of its
// weights are copied then. The remaining time of a product is latency: the load of x from the L2
// cache, the norm, the digits of x, one or two tiles, and the sum over warps in shared memory. So
// what does not depend on x comes before x has arrived, and the code behind that is short
// (packed_tiles.cuh). But the instructions before the wait count as well: meanwhile another kernel,
// which this one waits for, needs the same schedulers. Of the address of a copy as much as possible
// is common to tiles, a matrix is found per tile, not per row, and other numbers for later are
// computed while x is on its way. Before the wait, a warp with one step executes 177 instructions for
// two tiles of gate and up projection, 142 for one of q, k and v (for bfloat16 in Q4_0, sm_90a).
//
// Other loads must not wait for weights that are loaded to registers (`Held`). A use behind a branch
// waits for all loads whose uses are behind branches. So the norm's weights are copied to shared
// memory, too, and with such weights x is loaded again where it is used, from the L1 cache
// (tests/backends/test_cuda_machine_code.py).
//
// Bytes: the packed matrices once; x once per block, from the L2 cache. Grid: blocks loop over
// every gridDim.x-th tile of 16 rows. Shared memory: tiles and the digits of x, per warp, and sums.
#include <following.cuh>

#include "packed_tiles.cuh"

constexpr int ROWS_OF_TILE = 16;

// x as a 16-bit float, by a faster instruction than for one number: that for two.
template <class T> __device__ T rounded(float x) {
    const unsigned both = two<T>(x, 0);
    return reinterpret_cast<const T&>(both);
}

// Rows, rounded up to tiles.
__device__ inline int whole_tiles(int rows) { return (rows + ROWS_OF_TILE - 1) & -ROWS_OF_TILE; }

// Bytes of shared memory for a warp with that many steps: tiles, digits, zeros.
template <class FORMAT> __device__ int bytes_of_warp(int steps) {
    return FORMAT::DEPTH * FORMAT::BYTES + 4 * (steps * WORDS + Digits::MOST_READ);
}

template <class FORMAT, bool GATED, bool NORMED, class T>
__device__ void tile_product(const T* x, const T* norm, float reciprocal, float eps, Int round_first, Int norm_threads,
                             const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& c,
                             const T* residual, const T* bias, int columns, int steps, int tiles, int group) {
    trigger_next_kernel();  // so that the next kernels have time for copying their weights
    constexpr int UNITS = GATED ? 8 : 16, DEPTH = FORMAT::DEPTH, N = 8;
    static_assert(DEPTH == 1 || DEPTH == 2 && !FORMAT::HOLDS,
                  "registers hold what belongs to one tile, and `used` alternates between two");
    extern __shared__ float4 shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int g = lane / 4, t = lane % 4, blocks = unsigned(columns) / BLOCK;
    char* const of_block = in_register(reinterpret_cast<char*>(shared));
    char* const slots = of_block + warp * bytes_of_warp<FORMAT>(steps);
    unsigned* const words = reinterpret_cast<unsigned*>(slots + DEPTH * FORMAT::BYTES);
    unsigned* const zeros = words + steps * WORDS;
    // (tiles, rows, warps), warps padded with zeros to a multiple of 4
    float* const sums = reinterpret_cast<float*>(of_block + warps * bytes_of_warp<FORMAT>(steps));
    const int padded = (warps + 3) / 4 * 4;
    // Gate and up projection are the largest matrices of a layer. The small ones behind a norm need no pauses.
    constexpr Pauses at_first{GATED ? 1 : NORMED ? 0 : 2};

    typename FORMAT::Held held;
    // The matrix of a tile, with the tile's first row. Returns values: a reference to one of the
    // three would put all of them in local memory.
    const auto find = [&](int tile, int& row) {
        row = tile * UNITS;
        Matrix<T> found = a;
        if (!GATED && row >= whole_tiles(a.outputs)) {
            row -= whole_tiles(a.outputs), found = b;
            if (row >= whole_tiles(b.outputs)) row -= whole_tiles(b.outputs), found = c;
        }
        return found;
    };
    int next_tile = blockIdx.x, next_step = warp;  // to copy
    const auto copy_next = [&](char* slot, Pauses pauses) {
        if (next_tile < tiles) {
            Rows rows;
            rows.group = group;
            int row;
            const Matrix<T> of = find(next_tile, row);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const Matrix<T>& from = GATED && half ? b : of;
                rows.codes[half] = from.codes, rows.scales[half] = from.scales, rows.zeros[half] = from.zeros;
                rows.row[half] = min(row + g + (GATED ? 0 : 8 * half), of.outputs - 1);
            }
            FORMAT::copy(slot, held, rows, next_step, blocks, pauses);
            next_step += warps;
            if (next_step >= warps * steps) next_step = warp, next_tile += gridDim.x;
        }
        cp_async_commit();
    };
    // Where the lane's numbers of a step begin in x; past the end, the first ones are read.
    const auto begin_of = [&](int step) { return ((warp + step * warps) * 32 + lane) * N; };
    if (NORMED) {
        const auto copy_norm = [&](int i) {  // in the place of the digits of this step
            cp_async(words + i * WORDS + 4 * lane, norm + (begin_of(i) < columns ? begin_of(i) : 0));
        };
        copy_norm(0);
#pragma unroll 1
        for (int i = 1; i < steps; i++) copy_norm(i);
        cp_async_commit();
    }
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        if (d) at_first.before(0);
        copy_next(slots + d * FORMAT::BYTES, at_first);
    }
    // The warp adds up the sums of the block's tiles warp, warp + warps, ...: lanes r and r + 16 those
    // of row r. Of the first one: a lane's place in the output, if it has one, and what is added
    // there, residual or bias (which need a single matrix).
    const T* const added = GATED ? nullptr : residual ? residual : bias;
    const auto find_out = [&](int tile, int& row) {
        const Matrix<T> of = find(tile, row);
        row += lane;
        return lane < UNITS && row < of.outputs ? of.out + row : nullptr;
    };
    int first = begin_of(0) < columns ? begin_of(0) : 0, row = 0;
    T* out = nullptr;
    if (int(blockIdx.x + warp * gridDim.x) < tiles) out = find_out(blockIdx.x + warp * gridDim.x, row);
    compute_now(row), compute_now(out), compute_now(first);
    if (lane < Digits::MOST_READ / 4) *reinterpret_cast<uint4*>(zeros + 4 * lane) = {0, 0, 0, 0};
    wait_for_previous_kernel();

    auto pack = load_pack<N>(x + first);
    // While x is on its way. Where the lane's numbers of B begin in the warp's first step, and how far
    // it is to the next step:
    int column[2], to_next[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int found = FORMAT::column(i);
        column[i] = found < 0 ? steps * WORDS : found, to_next[i] = found < 0 ? 0 : WORDS;
        if (!FORMAT::HOLDS) compute_now(column[i]), compute_now(to_next[i]);
    }
    // Lane t = 0 writes the warp's sums of rows g and g + 8, others zeros where no warp has a sum.
    int of_sums = g * padded + warp + t * warps, has_sums = warp + t * warps < padded, to_second = 8 * padded;
    if (!FORMAT::HOLDS) compute_now(of_sums), compute_now(has_sums), compute_now(to_second);
    __syncwarp();  // the compiler moves nothing across this

    float scale = 1;
    if (NORMED) {
        scale = norm_of<false>(x, pack, columns, reciprocal, eps, int(norm_threads));
        cp_async_wait<DEPTH>();
    }
    unsigned* of_step = words;
    int i = 0, begin = begin_of(0);
    do {  // there is a step, and a tile: a loop that asks for the first one would load x behind that
        if (i || FORMAT::HOLDS) pack = load_pack<N>(x + (begin < columns ? begin : 0));
        if (NORMED) {
            const auto times = load_pack<N>(reinterpret_cast<const T*>(of_step + 4 * lane));
            pack = normed(pack, times, scale, round_first);
        }
        __syncwarp();  // all lanes have read the norm's weights here
        put_digits<FORMAT::BY_PAIRS, FORMAT::WITH_SUMS, FORMAT::SHIFT>(of_step, pack, begin < columns);
        of_step += WORDS, begin += 32 * N * warps;
    } while (++i < steps);

    T plus = added && out ? added[row] : T(-0.0f);  // x + -0 is x
    float totals[2] = {};
    Digits digits{words, {words + column[0], words + column[1]}};
    float* to_sums = sums + of_sums;
    int tile = blockIdx.x, step = 0;
    unsigned used = 0;  // the bytes before the tile among the warp's
    do {
        cp_async_wait<DEPTH - 1>();
        __syncwarp();
        FORMAT::add(slots + used, held, digits, totals);
        digits.step += WORDS;
#pragma unroll
        for (int i = 0; i < 2; i++) digits.column[i] += to_next[i];
        if (++step == steps) {
            step = 0, tile += gridDim.x;
            digits.step = words;
#pragma unroll
            for (int i = 0; i < 2; i++) digits.column[i] -= steps * to_next[i];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                for (int distance = 1; distance < 4; distance *= 2)
                    totals[half] += __shfl_xor_sync(0xffffffffu, totals[half], distance);
                if (has_sums) to_sums[half * to_second] = t ? 0 : totals[half];
                totals[half] = 0;
            }
            to_sums += 2 * to_second;
        }
        __syncwarp();  // all lanes have read the tile
        copy_next(slots + used, {0});
        used = (DEPTH - 1) * FORMAT::BYTES - used;
    } while (tile < tiles);
    __syncthreads();

    tile = blockIdx.x + warp * gridDim.x;
    if (tile >= tiles) return;
    const float* of_tile = sums + (warp * ROWS_OF_TILE + lane % 16) * padded;
    while (true) {
        float sum = 0;
#pragma unroll 1
        for (int w = lane / 16 * 4; w < padded; w += 8) {
            const float4 four = *reinterpret_cast<const float4*>(of_tile + w);
            sum += (four.x + four.y) + (four.z + four.w);
        }
        sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        if constexpr (GATED) {
            const float gate = float(rounded<T>(sum));
            const float up = float(rounded<T>(__shfl_xor_sync(0xffffffffu, sum, 8)));
            if (out) *out = rounded<T>(float(rounded<T>(gate * sigmoid(gate))) * up);
        } else {
            if (residual) sum = float(rounded<T>(sum));
            if (out) *out = rounded<T>(float(plus) + sum);
        }
        tile += warps * gridDim.x;
        if (tile >= tiles) return;
        out = find_out(tile, row), of_tile += warps * ROWS_OF_TILE * padded;
        if (added && out) plus = added[row];
    }
}

#define PRODUCT(KERNEL, FORMAT, GATED, NORMED, NAME, T)                                             \
    extern "C" __global__ void __launch_bounds__(32 * FORMAT##_tile::WARPS, 2)                      \
        KERNEL##_##FORMAT##_##NAME(                                                                 \
        const T* x, const T* norm, float reciprocal, float eps, Int round_first, Int norm_threads,  \
        const void* codes_0, const void* codes_1, const void* codes_2, const void* scales_0,        \
        const void* scales_1, const void* scales_2, const void* zeros_0, const void* zeros_1,       \
        const void* zeros_2, T* out_0, T* out_1, T* out_2, Int outputs_0, Int outputs_1,            \
        Int outputs_2, const T* residual, const T* bias, Int columns, Int steps, Int tiles,         \
        Int group) {                                                                                \
        tile_product<FORMAT##_tile, GATED, NORMED>(                                                 \
            x, norm, reciprocal, eps, round_first, norm_threads,                                    \
            Matrix<T>{codes_0, scales_0, out_0, int(outputs_0), zeros_0},                           \
            Matrix<T>{codes_1, scales_1, out_1, int(outputs_1), zeros_1},                           \
            Matrix<T>{codes_2, scales_2, out_2, int(outputs_2), zeros_2},                           \
            residual, bias, int(columns), int(steps), int(tiles), int(group));                      \
    }
#define EXPORT_FORMAT(FORMAT, NAME, T)                        \
    PRODUCT(row_product, FORMAT, false, false, NAME, T)       \
    PRODUCT(gated_product, FORMAT, true, false, NAME, T)      \
    PRODUCT(normed_row_product, FORMAT, false, true, NAME, T) \
    PRODUCT(normed_gated_product, FORMAT, true, true, NAME, T)
#define EXPORT(NAME, T)            \
    EXPORT_FORMAT(q4_0, NAME, T)   \
    EXPORT_FORMAT(q8_0, NAME, T)   \
    EXPORT_FORMAT(q4_k, NAME, T)   \
    EXPORT_FORMAT(q5_k, NAME, T)   \
    EXPORT_FORMAT(q6_k, NAME, T)   \
    EXPORT_FORMAT(int8_channel, NAME, T) \
    EXPORT_FORMAT(int4_group, NAME, T)
FOR_EACH_HALF(EXPORT)
